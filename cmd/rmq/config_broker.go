package main

import (
	"errors"
	"log/slog"
	"time"
)

// BrokerRole is the word of brokerRole. It says how a producer is acknowledged (design page, section 3), and SLAVE that
// this replica joins a group instead of founding one; it does not say who leads.
type BrokerRole string

// The words of brokerRole.
const (
	AsyncMaster BrokerRole = "ASYNC_MASTER"
	SyncMaster  BrokerRole = "SYNC_MASTER"
	Slave       BrokerRole = "SLAVE"
)

// FlushDiskType is the word of flushDiskType.
type FlushDiskType string

// The words of flushDiskType.
const (
	AsyncFlush FlushDiskType = "ASYNC_FLUSH"
	SyncFlush  FlushDiskType = "SYNC_FLUSH"
)

// DLedgerPeer is one entry of dLegerPeers: the replica number behind "n" and the address of its Raft port.
type DLedgerPeer struct {
	Number  int64
	Address string
}

// BrokerConfig holds the keys of a broker's property file that this version acts on, typed and checked. Every field is
// named after its Java key. It is filled by LoadBrokerConfig and read-only afterwards, except through OverrideNamesrvAddr.
type BrokerConfig struct {
	BrokerName        string
	BrokerClusterName string
	BrokerID          int64 // replica number inside the group; -1 = to be allocated

	NamesrvAddr []string // host:port each; empty = register nowhere
	BindAddress string   // 0.0.0.0 = every interface
	ListenPort  int      // also serves ListenPort-2
	BrokerIP1   string   // advertised to clients; never empty, detected when the file does not name it

	StorePathRootDir        string
	MappedFileSizeCommitLog int64 // bytes of one log segment
	FlushDiskType           FlushDiskType
	FlushIntervalCommitLog  time.Duration // fsync period under ASYNC_FLUSH
	BrokerRole              BrokerRole
	MessageIndexEnable      bool

	DeleteWhen                  []int         // hours of day 0..23, local time
	FileReservedTime            time.Duration // retention age
	DiskMaxUsedSpaceRatio       int           // percent, 10..95
	DiskSpaceCleanForciblyRatio int           // percent, 30..85
	DiskSpaceWarningLevelRatio  int           // percent, 35..90
	CleanFileForciblyEnable     bool
	CleanResourceInterval       time.Duration // retention tick

	BrokerPermission            int32 // bits 4 read, 2 write
	DefaultTopicQueueNums       int32
	AutoCreateTopicEnable       bool
	AutoCreateSubscriptionGroup bool
	ClusterTopicEnable          bool // topic named after the cluster
	BrokerTopicEnable           bool // topic named after the broker
	TraceTopicEnable            bool
	MsgTraceTopicName           string
	RegionID                    string

	MaxMessageSize                    int // bytes of a body
	MessageDelayLevel                 []time.Duration
	LongPollingEnable                 bool
	ShortPollingTimeMills             time.Duration
	LitePullMessageEnable             bool
	EnablePropertyFilter              bool
	SlaveReadEnable                   bool
	MaxTransferBytesOnMessageInMemory int
	MaxTransferCountOnMessageInMemory int
	MaxMsgsNumBatch                   int // messages a key query returns at most
	StartAcceptSendRequestTimeStamp   time.Time
	UseServerSideResetOffset          bool
	NotifyConsumerIdsChangedEnable    bool
	ChannelExpiredTimeout             time.Duration // client without heartbeat
	ServerChannelMaxIdleTimeSeconds   time.Duration
	SendThreadPoolQueueCapacity       int // admission limit of the send class
	PullThreadPoolQueueCapacity       int
	LitePullThreadPoolQueueCapacity   int
	QueryThreadPoolQueueCapacity      int
	RegisterBrokerTimeoutMills        time.Duration
	RegisterNameServerPeriod          time.Duration // clamped to 10 s .. 60 s
	BrokerHeartbeatInterval           time.Duration
	BrokerNotActiveTimeoutMillis      time.Duration
	CompressedRegister                bool
	ForceRegister                     bool
	EnableControllerMode              bool          // role words are ignored, replica number is allocated
	EnableDLegerCommitLog             bool          // members are given by DLegerPeers
	DLegerPeers                       []DLedgerPeer // empty unless EnableDLegerCommitLog
	InSyncReplicas                    int
	MinInSyncReplicas                 int
	TotalReplicas                     int
	SlaveTimeout                      time.Duration
	AllAckInSyncStateSet              bool
	HaListenPort                      int // Raft port; never 0 here
}

// LoadBrokerConfig reads a broker's property file; path "" means defaults and environment only. env is os.Getenv or a
// test's. Keys without effect and unknown keys are warned about on log, once each, followed by one summary line.
//
// Every problem of the file is reported in one error, one line each with file, line, key and value; a missing or
// unreadable file is an error. strict makes unknown keys errors. The error's exit code is ExitCode(err).
func LoadBrokerConfig(path string, env func(string) string, log *slog.Logger, strict bool) (*BrokerConfig, error) {
	return nil, errors.New("property files are not read yet")
}

// Items returns what this broker runs with, sorted by Java key: every key it acts on, and those of the file that have no
// effect. It is what -p, -m and the broker's own GET_BROKER_CONFIG answer print.
func (c *BrokerConfig) Items() []ConfigItem { return nil }

// OverrideNamesrvAddr replaces NamesrvAddr by the list given with -n ("host:port;host:port"). Its error carries exit code 253.
func (c *BrokerConfig) OverrideNamesrvAddr(list string) error {
	return errors.New("name server lists are not read yet")
}
