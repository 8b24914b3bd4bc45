package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// BrokerRole is the word of brokerRole. It says how a producer is acknowledged, and SLAVE that this replica joins a group
// instead of founding one; it does not say who leads.
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
	BrokerName        string // Raft group name; default: host name
	BrokerClusterName string
	BrokerID          int64 // replica number inside the group; -1 = to be allocated

	NamesrvAddr []string // host:port each; empty = register nowhere
	BindAddress string   // 0.0.0.0 = every interface
	ListenPort  int      // 3..65535; ListenPort-2 is served too
	BrokerIP1   string   // IP address advertised to clients; never empty, detected when the file does not name it

	StorePathRootDir        string // default: store under the home directory
	MappedFileSizeCommitLog int64  // bytes of one log segment; a multiple of 4096
	FlushDiskType           FlushDiskType
	FlushIntervalCommitLog  time.Duration // fsync period under ASYNC_FLUSH
	BrokerRole              BrokerRole
	MessageIndexEnable      bool

	DeleteWhen                  []int         // hours of day 0..23, local time
	FileReservedTime            time.Duration // retention age
	DiskMaxUsedSpaceRatio       int           // percent; below DiskSpaceCleanForciblyRatio
	DiskSpaceCleanForciblyRatio int           // percent; below DiskSpaceWarningLevelRatio
	DiskSpaceWarningLevelRatio  int           // percent, 35..90
	CleanResourceInterval       time.Duration // retention tick

	BrokerPermission            int32 // bits 4 read, 2 write
	DefaultTopicQueueNums       int32
	AutoCreateTopicEnable       bool
	AutoCreateSubscriptionGroup bool
	TraceTopicEnable            bool
	MsgTraceTopicName           string
	RegionID                    string

	MaxMessageSize                    int             // bytes of a body; with properties it fits into a segment
	MessageDelayLevel                 []time.Duration // first = level 1
	StartAcceptSendRequestTimeStamp   time.Time       // zero = at once
	LongPollingEnable                 bool
	ShortPollingTimeMills             time.Duration
	WaitTimeMillsInSendQueue          time.Duration // sends that would wait longer are refused
	LitePullMessageEnable             bool
	MaxTransferBytesOnMessageInMemory int
	MaxTransferCountOnMessageInMemory int

	ChannelExpiredTimeout time.Duration // a client without heartbeat is dropped after this
	//lint:ignore ST1011 named after its key
	ServerChannelMaxIdleTimeSeconds time.Duration

	RegisterBrokerTimeoutMills time.Duration
	RegisterNameServerPeriod   time.Duration // clamped to 10 s .. 60 s

	BrokerIP2    string // IP address advertised to the other replicas; default BrokerIP1
	HaListenPort int    // for the other replicas; default ListenPort + 1

	InSyncReplicas            int // data replicas, leader included, that SYNC_MASTER waits for
	MinInSyncReplicas         int // fewer in contact: sends are refused
	AllAckInSyncStateSet      bool
	SlaveTimeout              time.Duration // how long a send waits for them
	HaMaxGapNotInSync         int64         // bytes behind that count as not in sync
	HaMaxTimeSlaveNotCatchup  time.Duration // without contact that counts as not in sync
	MaxHaTransferByteInSecond int64         // at which another replica is filled
	AsyncLagMessages          int           // the window of ASYNC_MASTER
	AsyncLagBytes             int64
	//lint:ignore ST1011 named after its key
	AsyncLagMillis time.Duration

	AsyncLearner           bool // joins as a learner for good
	BrokerElectionPriority int  // lower leads rather
	LeaderBalance          bool
	LeaderBalanceInterval  time.Duration
	Arbiter                string // arbiterOn or arbiterOff
	EnableControllerMode   bool   // joins or founds, whoever comes first

	SlaveReadEnable               bool
	AccessMessageInMemoryMaxRatio int // percent of memory that a consumer may lag behind before it is sent to a follower
	EnableSlaveActingMaster       bool

	EnableDLegerCommitLog bool          // the group's members are DLegerPeers, role words do not count
	DLegerPeers           []DLedgerPeer // in file order
	DLegerSelfID          int64         // this member's number in DLegerPeers; -1 = not given

	keys *keySettings
}

// The words of arbiter.
const (
	arbiterOn  = "on"
	arbiterOff = "off"
)

// replicasMax is how many replicas a group may have.
const replicasMax = 9

// frameReserve is what a frame of remoting may hold beside a body: header, topic, properties.
const frameReserve = 256 << 10

func (c *BrokerConfig) settings() map[string]setting {
	const (
		most32  = 1<<31 - 1
		year    = 366 * 24 * 3600 * 1000
		mostTTL = 100 * 366 * 24 // hours
	)
	return map[string]setting{
		"brokerName":        textValue(&c.BrokerName, true),
		"brokerClusterName": textValue(&c.BrokerClusterName, true),
		"brokerId":          intValue(&c.BrokerID, -1, most32),

		"namesrvAddr": addressesValue(&c.NamesrvAddr),
		"bindAddress": textValue(&c.BindAddress, true),
		"listenPort":  intValue(&c.ListenPort, 3, 65535),
		"brokerIP1":   ipValue(&c.BrokerIP1),

		"storePathRootDir":        textValue(&c.StorePathRootDir, true),
		"mappedFileSizeCommitLog": intValue(&c.MappedFileSizeCommitLog, 64<<10, most32),
		"flushDiskType":           textValue(&c.FlushDiskType, true),
		"flushIntervalCommitLog":  durationValue(&c.FlushIntervalCommitLog, time.Millisecond, 1, 60_000),
		"brokerRole":              textValue(&c.BrokerRole, true),
		"messageIndexEnable":      boolValue(&c.MessageIndexEnable),

		"deleteWhen":                  hoursOfDayValue(&c.DeleteWhen),
		"fileReservedTime":            durationValue(&c.FileReservedTime, time.Hour, 1, mostTTL),
		"diskMaxUsedSpaceRatio":       intValue(&c.DiskMaxUsedSpaceRatio, 0, 100),
		"diskSpaceCleanForciblyRatio": intValue(&c.DiskSpaceCleanForciblyRatio, 0, 100),
		"diskSpaceWarningLevelRatio":  intValue(&c.DiskSpaceWarningLevelRatio, 0, 100),
		"cleanResourceInterval":       durationValue(&c.CleanResourceInterval, time.Millisecond, 100, year),

		"brokerPermission":            intValue(&c.BrokerPermission, 0, 7),
		"defaultTopicQueueNums":       intValue(&c.DefaultTopicQueueNums, 1, 1024),
		"autoCreateTopicEnable":       boolValue(&c.AutoCreateTopicEnable),
		"autoCreateSubscriptionGroup": boolValue(&c.AutoCreateSubscriptionGroup),
		"traceTopicEnable":            boolValue(&c.TraceTopicEnable),
		"msgTraceTopicName":           textValue(&c.MsgTraceTopicName, true),
		"regionId":                    textValue(&c.RegionID, false),

		"maxMessageSize":                    intValue(&c.MaxMessageSize, 1, 16<<20-frameReserve),
		"messageDelayLevel":                 delayLevelsValue(&c.MessageDelayLevel),
		"startAcceptSendRequestTimeStamp":   instantValue(&c.StartAcceptSendRequestTimeStamp),
		"longPollingEnable":                 boolValue(&c.LongPollingEnable),
		"waitTimeMillsInSendQueue":          durationValue(&c.WaitTimeMillsInSendQueue, time.Millisecond, 1, 60_000),
		"shortPollingTimeMills":             durationValue(&c.ShortPollingTimeMills, time.Millisecond, 1, 60_000),
		"litePullMessageEnable":             boolValue(&c.LitePullMessageEnable),
		"maxTransferBytesOnMessageInMemory": intValue(&c.MaxTransferBytesOnMessageInMemory, 1, 16<<20-frameReserve),
		"maxTransferCountOnMessageInMemory": intValue(&c.MaxTransferCountOnMessageInMemory, 1, 1<<16),

		"channelExpiredTimeout":           durationValue(&c.ChannelExpiredTimeout, time.Millisecond, 1000, year),
		"serverChannelMaxIdleTimeSeconds": durationValue(&c.ServerChannelMaxIdleTimeSeconds, time.Second, 1, year/1000),

		"registerBrokerTimeoutMills": durationValue(&c.RegisterBrokerTimeoutMills, time.Millisecond, 1, year),
		"registerNameServerPeriod":   durationValue(&c.RegisterNameServerPeriod, time.Millisecond, 1, year),

		"brokerIP2":    ipValue(&c.BrokerIP2),
		"haListenPort": intValue(&c.HaListenPort, -1, 65535),

		"inSyncReplicas":            intValue(&c.InSyncReplicas, 1, replicasMax),
		"minInSyncReplicas":         intValue(&c.MinInSyncReplicas, 1, replicasMax),
		"allAckInSyncStateSet":      boolValue(&c.AllAckInSyncStateSet),
		"slaveTimeout":              durationValue(&c.SlaveTimeout, time.Millisecond, 1, 60_000),
		"haMaxGapNotInSync":         intValue(&c.HaMaxGapNotInSync, 1, 1<<62),
		"haMaxTimeSlaveNotCatchup":  durationValue(&c.HaMaxTimeSlaveNotCatchup, time.Millisecond, 1, year),
		"maxHaTransferByteInSecond": intValue(&c.MaxHaTransferByteInSecond, 1, 1<<62),
		"asyncLagMessages":          intValue(&c.AsyncLagMessages, 1, 1<<20),
		"asyncLagBytes":             intValue(&c.AsyncLagBytes, 1, 1<<30),
		"asyncLagMillis":            durationValue(&c.AsyncLagMillis, time.Millisecond, 1, 60_000),

		"asyncLearner":           boolValue(&c.AsyncLearner),
		"brokerElectionPriority": intValue(&c.BrokerElectionPriority, 0, most32),
		"leaderBalance":          boolValue(&c.LeaderBalance),
		"leaderBalanceInterval":  durationValue(&c.LeaderBalanceInterval, time.Millisecond, 100, most32),
		"arbiter":                wordValue(&c.Arbiter, arbiterOn, arbiterOff),
		"enableControllerMode":   boolValue(&c.EnableControllerMode),

		"slaveReadEnable":               boolValue(&c.SlaveReadEnable),
		"accessMessageInMemoryMaxRatio": intValue(&c.AccessMessageInMemoryMaxRatio, 0, 100),
		"enableSlaveActingMaster":       boolValue(&c.EnableSlaveActingMaster),

		"enableDLegerCommitLog": boolValue(&c.EnableDLegerCommitLog),
		"dLegerPeers":           peersValue(&c.DLegerPeers),
		"dLegerSelfId":          memberValue(&c.DLegerSelfID),
	}
}

// LoadBrokerConfig reads a broker's property file; path "" means defaults and environment only. env is os.Getenv or a
// test's. Keys without effect and unknown keys are warned about on log, once each, followed by one summary line.
//
// Every problem of the file is reported in one error, one line each with file, line, key and value; a missing or
// unreadable file is an error. strict makes unknown keys errors. The error's exit code is ExitCode(err).
func LoadBrokerConfig(path string, env func(string) string, log *slog.Logger, strict bool) (*BrokerConfig, error) {
	c, err := newBrokerConfig()
	if err != nil {
		return nil, err
	}
	if err := c.keys.load(path, log, strict); err != nil {
		return nil, err
	}
	return c, c.finish(withJavaOptions(env), log)
}

// brokerConfigOf returns the configuration of a broker that another command runs, without file and environment: defaults
// and values, by Java key. They must name storePathRootDir. source is what Items says of the values.
func brokerConfigOf(values map[string]string, source string, log *slog.Logger) (*BrokerConfig, error) {
	c, err := newBrokerConfig()
	if err != nil {
		return nil, err
	}
	if err := c.keys.assign(values, source); err != nil {
		return nil, err
	}
	return c, c.finish(func(string) string { return "" }, log)
}

func newBrokerConfig() (c *BrokerConfig, err error) {
	c = &BrokerConfig{DLegerSelfID: -1}
	c.keys, err = newKeySettings(roleBroker, c.settings())
	return c, err
}

// finish fills the gaps and checks how the values fit together.
func (c *BrokerConfig) finish(env func(string) string, log *slog.Logger) error {
	if err := c.deriveDefaults(env, log); err != nil {
		return err
	}
	if err := c.checkIdentity(log); err != nil {
		return err
	}
	c.clampRanges(log)
	return nil
}

// Items returns what this broker runs with, sorted by Java key: every key it acts on, and those of the file that have no
// effect. It is what -p, -m and the broker's own GET_BROKER_CONFIG answer print.
func (c *BrokerConfig) Items() []ConfigItem { return c.keys.items() }

// OverrideNamesrvAddr replaces NamesrvAddr by the list given with -n ("host:port;host:port"). Its error carries exit code 253.
func (c *BrokerConfig) OverrideNamesrvAddr(list string) error {
	if err := c.keys.settings["namesrvAddr"].set(list); err != nil {
		return err
	}
	c.keys.sources["namesrvAddr"] = "command line -n"
	return nil
}

// deriveDefaults fills what neither the file nor the table gives a value: names and addresses of this machine.
func (c *BrokerConfig) deriveDefaults(env func(string) string, log *slog.Logger) error {
	host, err := os.Hostname()
	if err != nil {
		log.Warn("this machine has no host name", "error", err)
	}
	if err := c.keys.derive("brokerName", cmp.Or(host, "DEFAULT_BROKER"), sourceDetected); err != nil {
		return err
	}
	if list := env("NAMESRV_ADDR"); list != "" {
		if err := c.keys.derive("namesrvAddr", list, "environment NAMESRV_ADDR"); err != nil {
			return err
		}
	}
	if home := env("HOME"); home != "" {
		if err := c.keys.derive("storePathRootDir", filepath.Join(home, "store"), sourceDetected); err != nil {
			return err
		}
	}
	if c.StorePathRootDir == "" {
		return errors.New("HOME is not set and no file names storePathRootDir: there is nowhere to store messages")
	}
	if c.BrokerIP1 == "" {
		c.BrokerIP1 = detectAddress(log)
		c.keys.sources["brokerIP1"] = sourceDetected
	}
	if c.BrokerIP2 == "" {
		c.BrokerIP2 = c.BrokerIP1
	}
	if c.HaListenPort <= 0 {
		if c.HaListenPort = c.ListenPort + 1; c.HaListenPort > 65535 {
			return fmt.Errorf("listenPort = %d: the port for the other replicas would be %d; name one with haListenPort", c.ListenPort, c.HaListenPort)
		}
	}
	return nil
}

// checkIdentity checks who this replica says it is.
func (c *BrokerConfig) checkIdentity(log *slog.Logger) error {
	for key, name := range map[string]string{"brokerName": c.BrokerName, "brokerClusterName": c.BrokerClusterName} {
		if len(name) > 127 || strings.ContainsFunc(name, func(r rune) bool { return !nameRune(r) }) {
			return fmt.Errorf("%s = %q: is not a name of at most 127 letters, digits and . _ - %% |", key, name)
		}
	}
	switch {
	case c.EnableDLegerCommitLog && c.EnableControllerMode:
		return exitErrorf(exitBadModes, "enableControllerMode and enableDLegerCommitLog exclude each other")
	case c.EnableDLegerCommitLog:
		return c.checkMembers(log)
	case c.EnableControllerMode:
		return nil
	case c.BrokerRole == Slave && c.BrokerID <= 0:
		return exitErrorf(exitBadAddress, "Slave's brokerId must be > 0")
	case c.BrokerRole != Slave && c.BrokerID > 0:
		log.Warn("brokerId is the number of this replica in its group; a master role does not make it 0", "brokerId", c.BrokerID, "brokerRole", string(c.BrokerRole))
	}
	if c.MinInSyncReplicas > c.InSyncReplicas {
		log.Warn("minInSyncReplicas is more than inSyncReplicas, which is raised to it", "minInSyncReplicas", c.MinInSyncReplicas, "inSyncReplicas", c.InSyncReplicas)
		c.InSyncReplicas = c.MinInSyncReplicas
	}
	if c.BrokerRole == SyncMaster && c.FlushDiskType == AsyncFlush {
		log.Info("SYNC_MASTER with ASYNC_FLUSH: an acknowledged message survives process crashes; a power loss of a majority may lose what was not flushed yet", "flushIntervalCommitLog", c.FlushIntervalCommitLog)
	}
	return nil
}

// checkMembers checks the explicit membership of a DLedger file and takes the replica number from it.
func (c *BrokerConfig) checkMembers(log *slog.Logger) error {
	for _, item := range c.keys.inert {
		if item.Key == "dLegerGroup" && item.Value != c.BrokerName {
			return fmt.Errorf("%s: dLegerGroup = %q: is not the brokerName %q", item.Source, item.Value, c.BrokerName)
		}
	}
	self := slices.ContainsFunc(c.DLegerPeers, func(p DLedgerPeer) bool { return p.Number == c.DLegerSelfID })
	if !self {
		return fmt.Errorf("dLegerSelfId = %q: is not among dLegerPeers = %q", c.keys.settings["dLegerSelfId"].get(), c.keys.settings["dLegerPeers"].get())
	}
	if len(c.DLegerPeers)%2 == 0 {
		log.Warn("an even number of dLegerPeers survives no more failures than one less", "dLegerPeers", len(c.DLegerPeers))
	}
	c.BrokerID = c.DLegerSelfID
	c.keys.sources["brokerId"] = c.keys.sources["dLegerSelfId"]
	return nil
}

// clampRanges moves values that RocketMQ moves too, or that contradict each other, into their range.
func (c *BrokerConfig) clampRanges(log *slog.Logger) {
	clamp := func(key string, p *int, least, most int, why string) {
		if old := *p; old < least || old > most {
			*p = min(max(old, least), most)
			log.Warn("value moved into its range", "key", key, "file", old, "now", *p, "because", why)
		}
	}
	clamp("diskSpaceWarningLevelRatio", &c.DiskSpaceWarningLevelRatio, 35, 90, "35..90 is allowed")
	clamp("diskSpaceCleanForciblyRatio", &c.DiskSpaceCleanForciblyRatio, 30, min(85, c.DiskSpaceWarningLevelRatio-1), "30..85 is allowed, below diskSpaceWarningLevelRatio")
	clamp("diskMaxUsedSpaceRatio", &c.DiskMaxUsedSpaceRatio, 10, min(95, c.DiskSpaceCleanForciblyRatio-1), "10..95 is allowed, below diskSpaceCleanForciblyRatio")
	const page = 4096
	if rounded := c.MappedFileSizeCommitLog / page * page; rounded != c.MappedFileSizeCommitLog {
		log.Warn("value moved into its range", "key", "mappedFileSizeCommitLog", "file", c.MappedFileSizeCommitLog, "now", rounded, "because", "a segment is a multiple of 4096 bytes")
		c.MappedFileSizeCommitLog = rounded
	}
	segment := int(c.MappedFileSizeCommitLog)
	clamp("maxMessageSize", &c.MaxMessageSize, 1, segment-min(frameReserve, segment/2), "a message with its properties must fit into mappedFileSizeCommitLog")
	if period := min(max(c.RegisterNameServerPeriod, 10*time.Second), 60*time.Second); period != c.RegisterNameServerPeriod {
		log.Warn("value moved into its range", "key", "registerNameServerPeriod", "file", c.RegisterNameServerPeriod, "now", period, "because", "10..60 seconds is allowed")
		c.RegisterNameServerPeriod = period
	}
}

func nameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-%|", r)
}

// refuseForeignStore refuses a storePathRootDir that holds the files of a RocketMQ broker: starting there would neither
// read them nor leave them alone.
func refuseForeignStore(root string) error {
	for _, name := range []string{"commitlog", "consumequeue", filepath.Join("config", "topics.json")} {
		path := filepath.Join(root, name)
		switch _, err := os.Stat(path); {
		case err == nil:
			return fmt.Errorf("storePathRootDir = %q: holds data of a RocketMQ broker (%s); name an empty directory", root, path)
		case !errors.Is(err, os.ErrNotExist):
			return fmt.Errorf("storePathRootDir = %q: %w", root, err)
		}
	}
	return nil
}
