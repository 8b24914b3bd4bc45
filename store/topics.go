package store

// TopicConfig describes a topic. Attributes is shared and must not be changed.
type TopicConfig struct {
	Name        string
	ReadQueues  int32
	WriteQueues int32
	Perm        int32
	FilterType  string // "SINGLE_TAG", "MULTI_TAG"
	SysFlag     int32
	Order       bool
	Attributes  map[string]string
}

// Version counts changes of a table. Timestamp is the leader's clock at the last change, ms.
type Version struct {
	StateVersion int64
	Timestamp    int64
	Counter      int64
}

func (s *Store) Topic(name string) (TopicConfig, bool) { return TopicConfig{}, false }
func (s *Store) Topics() []TopicConfig                 { return nil }
func (s *Store) TopicsVersion() Version                { return Version{} }
