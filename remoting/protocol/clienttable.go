package protocol

// What the replicas of a group tell each other of its consumers: the bodies of CLIENT_TABLE, as JSON. compat/REPLICAS.md
// says what they mean.

// ClientTableRequest asks the leader for a page of its consumer groups.
type ClientTableRequest struct {
	// Known is the State of the table that the asker has. While it is the leader's too, the answer waits for a change, at
	// most WaitMillis.
	Known      string `json:"known"`
	WaitMillis int64  `json:"waitMillis"`
	After      string `json:"after"` // the last group of the page before; "" begins
}

// ClientTablePage is the answer: groups in the order of their names.
type ClientTablePage struct {
	State     string       `json:"state"` // names the table's present content, in this run of the leader
	Unchanged bool         `json:"unchanged"`
	Groups    []GroupState `json:"groups"`
	More      bool         `json:"more"` // groups follow behind the last one
}

// GroupState is a consumer group and its members.
type GroupState struct {
	Consumer ConsumerData  `json:"consumer"`
	Members  []MemberState `json:"members"`
}

// MemberState is one client of a consumer group.
type MemberState struct {
	ClientID string `json:"clientId"`
	Address  string `json:"address"`
	Language string `json:"language"`
	Version  int32  `json:"version"`
	// Absent members are not connected to the leader; it was last told SilentMillis ago that they were to the one before.
	Absent       bool  `json:"absent,omitempty"`
	SilentMillis int64 `json:"silentMillis,omitempty"`
}
