package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"rmq/store"
)

// AckRole is the word of brokerRole that decides when a send is answered.
type AckRole uint8

const (
	// RoleUnset: no file says it. As RoleSync, but a group with one data replica answers OK.
	RoleUnset AckRole = iota
	// RoleSync: committed, and on a second data replica.
	RoleSync
	// RoleAsync: appended on the leader, within the lag window.
	RoleAsync
)

// GroupSettings are the settings that all replicas of a group share: they stand in the group's state. The first leader
// writes those of its own file; a later file that says otherwise is warned about and the stored value wins.
type GroupSettings struct {
	Role         AckRole       // brokerRole; RoleUnset for SLAVE, which says nothing of acknowledgement
	SyncFlush    bool          // flushDiskType=SYNC_FLUSH
	InSync       int           // inSyncReplicas; default 1
	MinInSync    int           // minInSyncReplicas; default 1; raises InSync
	AllInSync    bool          // allAckInSyncStateSet
	SlaveTimeout time.Duration // slaveTimeout; default 3 s
	LagMessages  int           // asyncLagMessages; default 4,096
	LagBytes     int64         // asyncLagBytes; default 4 MiB
	LagAge       time.Duration // asyncLagMillis; default 200 ms
}

func (s *GroupSettings) setDefaults() {
	setDefault(&s.InSync, 1)
	setDefault(&s.MinInSync, 1)
	setDefault(&s.SlaveTimeout, 3*time.Second)
	setDefault(&s.LagMessages, 4096)
	setDefault(&s.LagBytes, 4<<20)
	setDefault(&s.LagAge, 200*time.Millisecond)
}

// The words of the settings, as in a file; roleUnset stands in the state only.
const (
	roleSync  = "SYNC_MASTER"
	roleAsync = "ASYNC_MASTER"
	roleSlave = "SLAVE"
	roleUnset = "UNSET"

	flushSync  = "SYNC_FLUSH"
	flushAsync = "ASYNC_FLUSH"
)

// groupSetting is one key of GroupSettings.
type groupSetting struct {
	get func(s *GroupSettings) string
	set func(s *GroupSettings, value string) error
}

// groupSettings has every group-wide key.
var groupSettings = map[string]groupSetting{
	"brokerRole": {
		get: func(s *GroupSettings) string { return [...]string{roleUnset, roleSync, roleAsync}[s.Role] },
		set: func(s *GroupSettings, v string) error {
			switch v {
			case roleUnset:
				s.Role = RoleUnset
			case roleSync:
				s.Role = RoleSync
			case roleAsync:
				s.Role = RoleAsync
			case roleSlave:
				return errors.New("SLAVE says nothing of how the group answers producers; expected ASYNC_MASTER or SYNC_MASTER")
			default:
				return errors.New("expected ASYNC_MASTER or SYNC_MASTER")
			}
			return nil
		},
	},
	"flushDiskType": {
		get: func(s *GroupSettings) string {
			if s.SyncFlush {
				return flushSync
			}
			return flushAsync
		},
		set: func(s *GroupSettings, v string) error {
			if v != flushSync && v != flushAsync {
				return errors.New("expected ASYNC_FLUSH or SYNC_FLUSH")
			}
			s.SyncFlush = v == flushSync
			return nil
		},
	},
	"allAckInSyncStateSet": {
		get: func(s *GroupSettings) string { return strconv.FormatBool(s.AllInSync) },
		set: func(s *GroupSettings, v string) error {
			if v != "true" && v != "false" {
				return errors.New("expected true or false")
			}
			s.AllInSync = v == "true"
			return nil
		},
	},
	"inSyncReplicas":    numberSetting(1, replicasMax, func(s *GroupSettings) *int { return &s.InSync }),
	"minInSyncReplicas": numberSetting(1, replicasMax, func(s *GroupSettings) *int { return &s.MinInSync }),
	"asyncLagMessages":  numberSetting(1, 1<<20, func(s *GroupSettings) *int { return &s.LagMessages }),
	"asyncLagBytes":     numberSetting(1, 1<<30, func(s *GroupSettings) *int64 { return &s.LagBytes }),
	"asyncLagMillis":    millisSetting(func(s *GroupSettings) *time.Duration { return &s.LagAge }),
	"slaveTimeout":      millisSetting(func(s *GroupSettings) *time.Duration { return &s.SlaveTimeout }),
}

// replicasMax bounds how many replicas a setting may ask for.
const replicasMax = 1 << 10

func numberSetting[T int | int64](low, high int64, field func(*GroupSettings) *T) groupSetting {
	return groupSetting{
		get: func(s *GroupSettings) string { return strconv.FormatInt(int64(*field(s)), 10) },
		set: func(s *GroupSettings, v string) error {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < low || n > high {
				return fmt.Errorf("expected a number from %d to %d", low, high)
			}
			*field(s) = T(n)
			return nil
		},
	}
}

// settingMillisMax is the longest time of a setting: a minute.
const settingMillisMax = 60_000

func millisSetting(field func(*GroupSettings) *time.Duration) groupSetting {
	return groupSetting{
		get: func(s *GroupSettings) string { return strconv.FormatInt(field(s).Milliseconds(), 10) },
		set: func(s *GroupSettings, v string) error {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 1 || n > settingMillisMax {
				return fmt.Errorf("expected milliseconds from 1 to %d", settingMillisMax)
			}
			*field(s) = time.Duration(n) * time.Millisecond
			return nil
		},
	}
}

// IsGroupSetting reports whether a configuration key is shared by all replicas of a group.
func IsGroupSetting(key string) bool {
	_, ok := groupSettings[key]
	return ok
}

// GroupSettings are the settings in force here: the stored ones, and of this replica's own file what is not stored yet.
func (b *Broker) GroupSettings() GroupSettings { return *b.settings.Load() }

// GroupConfig is GroupSettings as configuration items, as they would stand in a file.
func (b *Broker) GroupConfig() map[string]string {
	s := b.settings.Load()
	items := make(map[string]string, len(groupSettings))
	for key, setting := range groupSettings {
		items[key] = setting.get(s)
	}
	if s.Role == RoleUnset {
		items["brokerRole"] = roleSync
	}
	return items
}

// SetGroupConfig changes settings of the group, all or none, and returns once that is committed. Each replica follows as it
// applies the change.
func (b *Broker) SetGroupConfig(ctx context.Context, items map[string]string) error {
	next := b.GroupSettings()
	var record []byte
	for _, key := range slices.Sorted(maps.Keys(items)) {
		setting, ok := groupSettings[key]
		if !ok {
			return refuse(InvalidParameter, "%.64s is not a setting of the group", key)
		}
		if err := setting.set(&next, items[key]); err != nil {
			return refuse(InvalidParameter, "%s=%.64s: %v", key, items[key], err)
		}
		record = append(record, store.PutConfig(key, setting.get(&next))...)
	}
	if len(record) == 0 {
		return nil
	}
	_, err := b.append(ctx, record)
	return err
}

// writeSettings stores what this replica's file says and no leader has stored before.
func (b *Broker) writeSettings(ctx context.Context) error {
	stored := b.store.Configs()
	var record []byte
	for _, key := range slices.Sorted(maps.Keys(groupSettings)) {
		if _, ok := stored[key]; !ok {
			record = append(record, store.PutConfig(key, groupSettings[key].get(&b.opts.Settings))...)
		}
	}
	if len(record) == 0 {
		return nil
	}
	_, err := b.append(ctx, record)
	return err
}

// loadSettings takes over the stored settings: at the start, and from then on whenever they have changed. The store calls
// it from Apply's goroutine.
func (b *Broker) loadSettings() {
	stored := b.store.Configs()
	next, own := b.opts.Settings, b.opts.Settings
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(groupSettings)) {
		setting := groupSettings[key]
		value, ok := stored[key]
		if !ok {
			continue
		}
		if err := setting.set(&next, value); err != nil {
			b.logger.Error("a stored setting of the group is not understood, this replica goes by its file", "key", key, "value", value, "error", err)
			continue
		}
		if mine := setting.get(&own); mine != value && mine != roleUnset {
			changed = append(changed, key+"="+mine+" (in force: "+value+")")
		}
	}
	old := b.settings.Swap(&next)
	if old != nil && *old == next {
		return
	}
	if len(changed) > 0 {
		b.logger.Warn("the group has other settings than this replica's file, and those of the group are in force", "file", changed)
	}
	b.opts.SettingsChanged(next)
	b.acks.wake()
}
