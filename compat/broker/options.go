package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Clock is the broker's only source of time.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine after d; stop reports whether the call was prevented.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// SystemClock is the real clock.
type SystemClock struct{}

// Now returns time.Now.
func (SystemClock) Now() time.Time { return time.Now() }

// AfterFunc is time.AfterFunc.
func (SystemClock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }

// Permission bits of brokers, topics and queues, as on the wire.
const (
	PermInherit = 1
	PermWrite   = 2
	PermRead    = 4
)

// Options configures a Broker. The zero value of a field means its default where one is named.
type Options struct {
	Cluster string // brokerClusterName
	Group   string // brokerName: the Raft group's name
	// Host is the address that clients reach this replica at; it is stored in every message this replica accepts.
	Host netip.AddrPort

	Permission          int32 // brokerPermission; 0 forbids everything, so there is no default
	AutoCreateTopic     bool  // autoCreateTopicEnable
	AutoCreateGroup     bool  // autoCreateSubscriptionGroup
	DefaultTopicQueues  int32 // defaultTopicQueueNums; default 8
	MessageBytesMax     int   // maxMessageSize; default 4 MiB
	DelayLevels         []time.Duration
	SendWaitMax         time.Duration // waitTimeMillsInSendQueue: sends that would wait longer are refused; default 200 ms
	LongPolling         bool          // longPollingEnable
	ShortPolling        time.Duration // shortPollingTimeMills; default 1 s
	PullMessagesMax     int           // maxTransferCountOnMessageInMemory; default 32
	PullBytesMax        int           // maxTransferBytesOnMessageInMemory; default 256 KiB
	ParkedPullsMax      int           // default 50,000
	LitePull            bool          // litePullMessageEnable
	TraceTopic          string        // msgTraceTopicName, with traceTopicEnable; empty = no such topic
	Region              string        // default DefaultRegion
	AcceptSendAfter     time.Time     // startAcceptSendRequestTimeStamp
	OffsetsInterval     time.Duration // how often collected consumer offsets become one log entry; default 200 ms
	ClientExpiry        time.Duration // a client without heartbeat is dropped after this; default 120 s
	LockLease           time.Duration // an ordered queue lock not renewed for this long may be taken over; default 60 s
	RetentionAge        time.Duration // fileReservedTime; default 72 h
	RetentionHours      []int         // deleteWhen: hours of day, local time; default 04
	DiskUsedRatioMax    float64       // diskMaxUsedSpaceRatio / 100; default 0.75: trim regardless of the hour
	DiskForceRatio      float64       // diskSpaceCleanForciblyRatio / 100; default 0.85: trim regardless of age
	DiskWarningRatio    float64       // diskSpaceWarningLevelRatio / 100; default 0.90: refuse writes
	DiskUsage           func() (used float64, err error)
	SegmentBytes        int64 // raftlog's segment size: trimming frees whole segments only
	RetentionCheckEvery time.Duration
	// TrimLimit is the position in the log that no cut goes past, whatever the retention says: replicas that are in contact,
	// or being filled, still need what follows. Nil: no limit.
	TrimLimit func() int64

	Replicas Replicas      // the group's data replicas; nil: this one alone
	Settings GroupSettings // this replica's file's word for the settings that the group shares
	// SettingsChanged is told the group's settings by New, and then whenever they change, from the goroutine that applies the
	// log: it must be quick.
	SettingsChanged func(GroupSettings)
	// CompletedBatch is called after a run of results with SendResult.Batched set that the broker itself hands out. Nil: those
	// results do not have it set.
	CompletedBatch func()
	// SlaveRead reports slaveReadEnable: reads may go to a replica that does not lead. Nil: they may not.
	SlaveRead func() bool
	// SlowReadBytes is how far behind the end of the log a pull is sent to another replica, and back to the leader at three
	// quarters of it: accessMessageInMemoryMaxRatio of the machine's memory. 0: never.
	SlowReadBytes int64

	// NotifyMembership tells a consumer that the membership of its group changed. It must not block.
	NotifyMembership func(c Connection, group string)
	// TopicsChanged is called after a topic was created, changed or deleted through this replica, outside any lock. With
	// wait it returns once the name servers know, or do not answer; without it returns at once.
	TopicsChanged func(wait bool)
	Clock         Clock
	Logger        *slog.Logger
}

// DefaultDelayLevels is messageDelayLevel as RocketMQ ships it.
const DefaultDelayLevels = "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h"

// ParseDelayLevels reads messageDelayLevel: durations separated by blanks, units s, m, h, d.
func ParseDelayLevels(s string) ([]time.Duration, error) {
	var levels []time.Duration
	for _, word := range strings.Fields(s) {
		unit, ok := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[word[len(word)-1]]
		n, err := strconv.ParseInt(word[:len(word)-1], 10, 32)
		if !ok || err != nil || n < 0 || n > int64(math.MaxInt64/unit) {
			return nil, fmt.Errorf("messageDelayLevel: %q is not a number followed by s, m, h or d", word)
		}
		levels = append(levels, time.Duration(n)*unit)
	}
	if len(levels) == 0 {
		return nil, errors.New("messageDelayLevel: at least one level is needed")
	}
	return levels, nil
}

func (o *Options) setDefaults() error {
	if o.Cluster == "" || o.Group == "" {
		return errors.New("broker: cluster and group name are required")
	}
	if !o.Host.IsValid() {
		return errors.New("broker: the advertised address is required")
	}
	setDefault(&o.DefaultTopicQueues, 8)
	setDefault(&o.MessageBytesMax, 4<<20)
	setDefault(&o.SendWaitMax, 200*time.Millisecond)
	setDefault(&o.ShortPolling, time.Second)
	setDefault(&o.PullMessagesMax, 32)
	setDefault(&o.PullBytesMax, 256<<10)
	setDefault(&o.ParkedPullsMax, 50_000)
	setDefault(&o.Region, "DefaultRegion")
	setDefault(&o.OffsetsInterval, 200*time.Millisecond)
	setDefault(&o.ClientExpiry, 120*time.Second)
	setDefault(&o.LockLease, 60*time.Second)
	setDefault(&o.RetentionAge, 72*time.Hour)
	setDefault(&o.DiskUsedRatioMax, 0.75)
	setDefault(&o.DiskForceRatio, 0.85)
	setDefault(&o.DiskWarningRatio, 0.90)
	setDefault(&o.SegmentBytes, 1<<30)
	setDefault(&o.RetentionCheckEvery, 10*time.Second)
	if o.RetentionHours == nil {
		o.RetentionHours = []int{4}
	}
	if o.DelayLevels == nil {
		o.DelayLevels, _ = ParseDelayLevels(DefaultDelayLevels)
	}
	if o.Clock == nil {
		o.Clock = SystemClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Settings.setDefaults()
	if o.Replicas == nil {
		o.Replicas = alone{}
	}
	if o.SlaveRead == nil {
		o.SlaveRead = func() bool { return false }
	}
	if o.SettingsChanged == nil {
		o.SettingsChanged = func(GroupSettings) {}
	}
	if o.NotifyMembership == nil {
		o.NotifyMembership = func(Connection, string) {}
	}
	if o.TopicsChanged == nil {
		o.TopicsChanged = func(bool) {}
	}
	if !(o.DiskUsedRatioMax < o.DiskForceRatio && o.DiskForceRatio < o.DiskWarningRatio) {
		return fmt.Errorf("broker: disk ratios must rise: diskMaxUsedSpaceRatio %.2f, diskSpaceCleanForciblyRatio %.2f, diskSpaceWarningLevelRatio %.2f",
			o.DiskUsedRatioMax, o.DiskForceRatio, o.DiskWarningRatio)
	}
	return nil
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}
