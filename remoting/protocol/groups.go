package protocol

// What rmq's brokers and name servers tell each other of broker groups: the bodies of FOUND_GROUP, GROUP_MEMBERS,
// OFFER_ARBITER and FORGET_GROUP, as JSON. compat/namesrv/GROUPS.md says what they mean.

// FoundGroupBody asks to be the one replica that founds a group.
type FoundGroupBody struct {
	Cluster    string `json:"cluster"`
	Group      string `json:"group"` // brokerName
	Number     int    `json:"number"`
	ServerID   string `json:"serverId"`
	RaftAddr   string `json:"raftAddr"`
	ClientAddr string `json:"clientAddr"`
}

// FoundGrant is the answer to a FoundGroupBody that is granted.
type FoundGrant struct {
	// ValidMillis is how long the grant may be used, counted from the moment the request was sent. Afterwards it has to be
	// asked for again.
	ValidMillis int64 `json:"validMillis"`
}

// GroupMembersBody is what a group's leader reports of it: when it begins to lead, when the configuration changes, and now and then.
type GroupMembersBody struct {
	Cluster string `json:"cluster"`
	Group   string `json:"group"`
	Leader  string `json:"leader"` // its ServerID
	Term    uint64 `json:"term"`
	// ConfigurationIndex is the entry of the configuration, which is committed.
	ConfigurationIndex uint64        `json:"configurationIndex"`
	Members            []GroupMember `json:"members"`
}

// GroupMember is one server of a group's configuration.
type GroupMember struct {
	ServerID   string `json:"serverId"`
	RaftAddr   string `json:"raftAddr"`
	ClientAddr string `json:"clientAddr,omitempty"` // none of an arbiter, or if it is not known
	Voter      bool   `json:"voter"`
	Arbiter    bool   `json:"arbiter,omitempty"`
}

// ArbiterRequest asks a name server for an arbiter of a group.
type ArbiterRequest struct {
	Cluster string `json:"cluster"`
	Group   string `json:"group"`
	// DataAddrs are the Raft addresses of the group's data replicas.
	DataAddrs []string `json:"dataAddrs"`
	// OtherHost refuses an arbiter on a machine that one of DataAddrs is on, too: if that machine is lost, so is the group.
	OtherHost bool `json:"otherHost,omitempty"`
	// Exclude are arbiters that do not answer the leader any more: another one is wanted.
	Exclude []string `json:"exclude,omitempty"`
	// EntryBytesMax is the largest entry that the group's log may hold; 0 stands for 16 MiB.
	EntryBytesMax int64 `json:"entryBytesMax,omitempty"`
}

// ArbiterOffer is an arbiter that listens and waits to be seeded, or one that the group has already.
type ArbiterOffer struct {
	ServerID   string `json:"serverId"` // arbiter-<incarnation>
	Address    string `json:"address"`  // of its Raft port
	SharesHost bool   `json:"sharesHost,omitempty"`
}

// ForgetGroupBody removes what a name server remembers of a group, so that it may be founded anew.
type ForgetGroupBody struct {
	Cluster string `json:"cluster"`
	Group   string `json:"group"`
}

// GroupStatusBody is the answer to GROUP_STATUS: a group as the replica that was asked knows it. Only the leader knows how the
// others stand.
type GroupStatusBody struct {
	Cluster    string          `json:"cluster"`
	BrokerName string          `json:"brokerName"`
	Leads      bool            `json:"leads"` // the one that was asked
	Term       int64           `json:"term"`
	Replicas   []ReplicaStatus `json:"replicas"`
}

// ReplicaStatus is one server of a group.
type ReplicaStatus struct {
	Number     int    `json:"number"` // -1 for an arbiter
	ServerID   string `json:"serverId"`
	Role       string `json:"role"`              // leader, voter, learner or arbiter
	Address    string `json:"address,omitempty"` // where it answers clients
	RaftAddr   string `json:"raftAddress"`
	Node       string `json:"node,omitempty"` // the process, if its leader knows
	Connected  bool   `json:"connected"`
	InSync     bool   `json:"inSync"`
	LagBytes   int64  `json:"lagBytes"` // -1 if that is not known
	Muted      bool   `json:"muted"`
	Filling    bool   `json:"filling"`
	FilledSize int64  `json:"filledBytes,omitempty"` // of FillSize, while it is being filled
	FillSize   int64  `json:"fillBytes,omitempty"`
}
