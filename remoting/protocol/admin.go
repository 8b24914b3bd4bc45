package protocol

// HARuntimeInfo is the answer to GET_BROKER_HA_STATUS.
type HARuntimeInfo struct {
	Master                   bool                `json:"master"`
	MasterCommitLogMaxOffset int64               `json:"masterCommitLogMaxOffset"`
	InSyncSlaveNums          int32               `json:"inSyncSlaveNums"`
	HAConnectionInfo         []HAConnectionInfo  `json:"haConnectionInfo"`
	HAClientRuntimeInfo      HAClientRuntimeInfo `json:"haClientRuntimeInfo"`
}

// HAConnectionInfo is a replica as the master sees it.
type HAConnectionInfo struct {
	Addr                    string `json:"addr"`
	SlaveAckOffset          int64  `json:"slaveAckOffset"`
	Diff                    int64  `json:"diff"`
	InSync                  bool   `json:"inSync"`
	TransferredByteInSecond int64  `json:"transferredByteInSecond"`
	TransferFromWhere       int64  `json:"transferFromWhere"`
}

// HAClientRuntimeInfo is a replica's own view.
type HAClientRuntimeInfo struct {
	MasterAddr              string `json:"masterAddr,omitempty"`
	TransferredByteInSecond int64  `json:"transferredByteInSecond"`
	MaxOffset               int64  `json:"maxOffset"`
	LastReadTimestamp       int64  `json:"lastReadTimestamp"`
	LastWriteTimestamp      int64  `json:"lastWriteTimestamp"`
	MasterFlushOffset       int64  `json:"masterFlushOffset"`
	Activated               bool   `json:"activated"`
}

// UserInfo is a user of the ACL.
type UserInfo struct {
	Username   string `json:"username,omitempty"`
	Password   string `json:"password,omitempty"`
	UserType   string `json:"userType,omitempty"` // Super or Normal
	UserStatus string `json:"userStatus,omitempty"`
}

// AclInfo has the policies of a subject, such as "User:u".
type AclInfo struct {
	Subject  string       `json:"subject,omitempty"`
	Policies []PolicyInfo `json:"policies,omitempty"`
}

// PolicyInfo is a list of rules of one kind.
type PolicyInfo struct {
	PolicyType string            `json:"policyType,omitempty"` // Custom or Default
	Entries    []PolicyEntryInfo `json:"entries,omitempty"`
}

// PolicyEntryInfo is a rule.
type PolicyEntryInfo struct {
	Resource  string   `json:"resource,omitempty"` // such as "Topic:*"
	Actions   []string `json:"actions,omitempty"`
	SourceIPs []string `json:"sourceIps,omitempty"`
	Decision  string   `json:"decision,omitempty"` // Allow or Deny
}
