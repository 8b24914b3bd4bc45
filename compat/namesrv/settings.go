package namesrv

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Settings are the configuration keys that may be changed while the name server runs. The field comments give the keys.
type Settings struct {
	OrderMessages      bool          // orderMessageEnable: routes carry the order configuration of their topic
	OrderConfToBrokers bool          // returnOrderTopicConfigToBroker: so do answers to registrations, for all topics
	ActingMaster       bool          // supportActingMaster: groups without leader that ask for it show one that is read-only
	TopicLists         bool          // enableTopicList: topic lists by cluster, unit or kind are answered
	AllTopicList       bool          // enableAllTopicList: the list of all topics is answered
	CompleteTopics     bool          // deleteTopicWithBrokerRegistration: topics missing in a registration are no longer served
	NotifyMinID        bool          // notifyMinBrokerIdChanged: groups with an acting master hear of a new smallest id
	WaitForBrokers     bool          // needWaitForService: route requests are refused while brokers had no time to register
	WaitForBrokersFor  time.Duration // waitSecondsForService
	ScanInterval       time.Duration // scanNotActiveBrokerInterval: how often silent replicas are looked for
}

// DefaultSettings are Apache's.
func DefaultSettings() Settings {
	return Settings{
		OrderConfToBrokers: true,
		TopicLists:         true,
		AllTopicList:       true,
		WaitForBrokersFor:  45 * time.Second,
		ScanInterval:       5 * time.Second,
	}
}

// Errors of a change of settings. Callers compare with errors.Is.
var (
	ErrUnknownKey = errors.New("unknown configuration key")
	ErrFixedKey   = errors.New("configuration key cannot be changed at run time")
	ErrBadValue   = errors.New("bad configuration value")
)

// settingsBytesMax bounds the text of a change and the file of changes.
const settingsBytesMax = 64 << 10

// settingsTable is the allow-list: nothing else can be changed over the network.
var settingsTable = map[string]settingKey{
	"orderMessageEnable":                boolKey(func(s *Settings) *bool { return &s.OrderMessages }),
	"returnOrderTopicConfigToBroker":    boolKey(func(s *Settings) *bool { return &s.OrderConfToBrokers }),
	"supportActingMaster":               boolKey(func(s *Settings) *bool { return &s.ActingMaster }),
	"enableTopicList":                   boolKey(func(s *Settings) *bool { return &s.TopicLists }),
	"enableAllTopicList":                boolKey(func(s *Settings) *bool { return &s.AllTopicList }),
	"deleteTopicWithBrokerRegistration": boolKey(func(s *Settings) *bool { return &s.CompleteTopics }),
	"notifyMinBrokerIdChanged":          boolKey(func(s *Settings) *bool { return &s.NotifyMinID }),
	"needWaitForService":                boolKey(func(s *Settings) *bool { return &s.WaitForBrokers }),
	"waitSecondsForService":             durationKey(func(s *Settings) *time.Duration { return &s.WaitForBrokersFor }, time.Second, 0, time.Hour),
	"scanNotActiveBrokerInterval":       durationKey(func(s *Settings) *time.Duration { return &s.ScanInterval }, time.Millisecond, 100*time.Millisecond, 10*time.Minute),
}

// SettingKeys returns the names of the keys that may be changed at run time, sorted.
func SettingKeys() []string { return slices.Sorted(maps.Keys(settingsTable)) }

type settingKey struct {
	get func(*Settings) string
	set func(*Settings, string) error
}

func boolKey(field func(*Settings) *bool) settingKey {
	return settingKey{
		get: func(s *Settings) string { return strconv.FormatBool(*field(s)) },
		set: func(s *Settings, value string) error {
			switch value {
			case "true":
				*field(s) = true
			case "false":
				*field(s) = false
			default:
				return fmt.Errorf("%w: %.100q is neither true nor false", ErrBadValue, value)
			}
			return nil
		},
	}
}

// durationKey is a whole number of units between least and most.
func durationKey(field func(*Settings) *time.Duration, unit, least, most time.Duration) settingKey {
	return settingKey{
		get: func(s *Settings) string { return strconv.FormatInt(int64(*field(s)/unit), 10) },
		set: func(s *Settings, value string) error {
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < int64(least/unit) || n > int64(most/unit) {
				return fmt.Errorf("%w: %.100q is not a whole number from %d to %d", ErrBadValue, value, least/unit, most/unit)
			}
			*field(s) = time.Duration(n) * unit
			return nil
		},
	}
}

// settings holds the current Settings and keeps changes to them in a file of key=value lines, which is applied over
// whatever the process was started with.
type settings struct {
	fixed   map[string]string // shown, never changed here
	file    stateFile
	current atomic.Pointer[Settings] // never changed, only replaced
	mu      sync.Mutex               // held through a change; guards changes
	changes map[string]string        // what the file holds
}

func openSettings(path string, initial Settings, fixed map[string]string) (*settings, error) {
	file, err := openStateFile(path)
	if err != nil {
		return nil, fmt.Errorf("open changed settings: %w", err)
	}
	s := &settings{fixed: maps.Clone(fixed), file: file, changes: map[string]string{}}
	if err := s.load(initial); err != nil {
		return nil, errors.Join(fmt.Errorf("read changed settings %s: %w", path, err), file.close())
	}
	return s, nil
}

func (s *settings) load(initial Settings) error {
	text, err := s.file.read(settingsBytesMax)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	changes, err := parseProperties(string(text))
	if err != nil {
		return err
	}
	if err := s.apply(&initial, changes); err != nil {
		return err
	}
	s.changes = changes
	s.current.Store(&initial)
	return nil
}

func (s *settings) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file.close()
}

func (s *settings) get() Settings { return *s.current.Load() }

// update changes all the keys in text or none. The change is on disk when it returns nil.
func (s *settings) update(text string) error {
	if len(text) > settingsBytesMax {
		return fmt.Errorf("%w: more than %d bytes of text", ErrBadValue, settingsBytesMax)
	}
	changes, err := parseProperties(text)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.get()
	if err := s.apply(&next, changes); err != nil {
		return err
	}
	all := maps.Clone(s.changes)
	maps.Copy(all, changes)
	if err := s.file.write([]byte(formatProperties(all))); err != nil {
		return fmt.Errorf("write changed settings: %w", err)
	}
	s.changes = all
	s.current.Store(&next)
	return nil
}

func (s *settings) apply(to *Settings, changes map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(changes)) {
		k, ok := settingsTable[key]
		if !ok {
			if _, fixed := s.fixed[key]; fixed {
				return fmt.Errorf("%w: %s", ErrFixedKey, key)
			}
			return fmt.Errorf("%w: %.100q", ErrUnknownKey, key)
		}
		if err := k.set(to, changes[key]); err != nil {
			return fmt.Errorf("key %s: %w", key, err)
		}
	}
	return nil
}

// text lists all keys and their values, sorted.
func (s *settings) text() string {
	now := s.get()
	all := maps.Clone(s.fixed)
	if all == nil {
		all = map[string]string{}
	}
	for key, k := range settingsTable {
		all[key] = k.get(&now)
	}
	return formatProperties(all)
}

func formatProperties(m map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(m)) {
		b.WriteString(key + "=" + m[key] + "\n")
	}
	return b.String()
}

// parseProperties reads key=value lines. The keys that can be changed take words and numbers only, so escapes and
// continued lines have no meaning here: a value with a backslash is refused as any bad value is.
func parseProperties(text string) (map[string]string, error) {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("%w: %.100q is not of the form key=value", ErrBadValue, line)
		}
		out[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return out, nil
}
