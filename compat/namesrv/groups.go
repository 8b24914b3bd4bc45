package namesrv

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"rmq/remoting/protocol"
)

const (
	// grantFor is how long a replica may take to found its group after it was allowed to; nobody else is allowed to for twice as long.
	grantFor = 30 * time.Second
	// membersRecent is how long a group's only member is believed to have its data after its last report, if somebody comes from
	// another address in its place.
	membersRecent = 3 * time.Minute
	// membersFresh is how old the time of the last report may be on disk.
	membersFresh = time.Minute

	membersMax         = 64 // of one group
	groupFileBytesMax  = 64 << 20
	groupMemoryVersion = 1
)

var errStaleReport = errors.New("the report is older than what is known")

// groupMemory is what a name server remembers of the groups of rmq's brokers, in one file: who was allowed to found a group, and who
// was in it when its leader reported last. It serves one purpose: that no group is founded a second time while somebody may hold
// data of the first. GROUPS.md has the rules and the file.
type groupMemory struct {
	now  func() time.Time
	max  int
	file stateFile

	mu     sync.Mutex // held through a change
	groups map[string]knownGroup
}

// knownGroup is one group. A value in the map is never changed, only replaced.
type knownGroup struct {
	Cluster string                     `json:"cluster"`
	Group   string                     `json:"group"`
	Grant   *foundGrant                `json:"grant,omitempty"`  // to found it; none once it is founded
	Report  *protocol.GroupMembersBody `json:"report,omitempty"` // the newest
	// Reported is when Report came, in ms since 1970.
	Reported int64 `json:"reported,omitempty"`
}

type foundGrant struct {
	To protocol.FoundGroupBody `json:"to"`
	At int64                   `json:"at"` // ms since 1970
}

// groupDocument is the file, before the line with its CRC.
type groupDocument struct {
	Version int          `json:"version"`
	Groups  []knownGroup `json:"groups"`
}

// heldError refuses the founding of a group.
type heldError struct{ who string }

func (e *heldError) Error() string { return ErrGroupHeld.Error() + ": " + e.who }
func (e *heldError) Unwrap() error { return ErrGroupHeld }

func held(format string, args ...any) error { return &heldError{fmt.Sprintf(format, args...)} }

func openGroupMemory(path string, now func() time.Time, limit int) (*groupMemory, error) {
	file, err := openStateFile(path)
	if err != nil {
		return nil, fmt.Errorf("open the memory of groups: %w", err)
	}
	m := &groupMemory{now: now, max: limit, file: file, groups: map[string]knownGroup{}}
	if err := m.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read the memory of groups %s: %w", path, err), file.close())
	}
	return m, nil
}

func (m *groupMemory) load() error {
	text, err := m.file.read(groupFileBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	doc, err := decodeGroups(text)
	if err != nil {
		return err
	}
	for _, g := range doc.Groups {
		m.groups[groupKey(g.Cluster, g.Group)] = g
	}
	return nil
}

func decodeGroups(text []byte) (doc groupDocument, err error) {
	at := strings.LastIndex(string(text), "crc32c ")
	if at < 0 {
		return doc, errors.New("it has no CRC")
	}
	if want := crcLine(text[:at]); string(text[at:]) != want {
		return doc, fmt.Errorf("it ends with %.100q, its CRC is %q", text[at:], want)
	}
	if err := json.Unmarshal(text[:at], &doc); err != nil {
		return doc, err
	}
	if doc.Version != groupMemoryVersion {
		return doc, fmt.Errorf("it has version %d, this program knows %d", doc.Version, groupMemoryVersion)
	}
	return doc, nil
}

func encodeGroups(groups map[string]knownGroup) ([]byte, error) {
	doc := groupDocument{Version: groupMemoryVersion, Groups: []knownGroup{}}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		doc.Groups = append(doc.Groups, groups[key])
	}
	text, err := json.MarshalIndent(doc, "", "\t")
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	return append(text, crcLine(text)...), nil
}

func crcLine(text []byte) string {
	return fmt.Sprintf("crc32c %08x\n", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
}

// groupKey cannot be the same for two groups: names have no spaces.
func groupKey(cluster, group string) string { return cluster + " " + group }

func (m *groupMemory) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.file.close()
}

// found allows q's sender to found its group, or fails with ErrGroupHeld. The grant is on disk when it returns nil.
func (m *groupMemory) found(q protocol.FoundGroupBody) error {
	if err := checkFound(&q); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := groupKey(q.Cluster, q.Group)
	g, known := m.groups[key]
	if known {
		if err := g.mayFound(&q, m.now()); err != nil {
			return err
		}
	}
	return m.put(key, knownGroup{Cluster: q.Cluster, Group: q.Group, Grant: &foundGrant{To: q, At: m.now().UnixMilli()}})
}

func checkFound(q *protocol.FoundGroupBody) error {
	switch {
	case !ValidName(q.Cluster) || !ValidName(q.Group) || !ValidName(q.ServerID):
		return fmt.Errorf("%w: cluster %.100q, group %.100q, replica %.100q", ErrInvalid, q.Cluster, q.Group, q.ServerID)
	case !ValidAddress(q.RaftAddr) || !ValidAddress(q.ClientAddr) || q.Number < 0:
		return fmt.Errorf("%w: replica %d at %.100q and %.100q", ErrInvalid, q.Number, q.RaftAddr, q.ClientAddr)
	}
	return nil
}

// mayFound judges by what is known of the group. A replica that comes from where the only member was has been emptied, and nothing
// else has data of the group.
func (g *knownGroup) mayFound(q *protocol.FoundGroupBody, now time.Time) error {
	if g.Report == nil {
		to := &g.Grant.To
		age := now.Sub(time.UnixMilli(g.Grant.At))
		if to.ServerID == q.ServerID || samePlace(q, to.Number, to.RaftAddr, to.ClientAddr) || age >= 2*grantFor {
			return nil
		}
		return held("replica %s at %s is founding it since %s", to.ServerID, to.RaftAddr, age.Round(time.Second))
	}
	var sole *protocol.GroupMember
	for i := range g.Report.Members {
		member := &g.Report.Members[i]
		if member.Arbiter || !hasNumber(member.ServerID, q.Number) {
			return held("%s at %s is a member of it; let this replica join, or have the name server forget the group", member.ServerID, member.RaftAddr)
		}
		sole = member
	}
	age := now.Sub(time.UnixMilli(g.Reported))
	if sole == nil || age >= membersRecent || samePlace(q, q.Number, sole.RaftAddr, sole.ClientAddr) {
		return nil
	}
	return held("%s at %s led it %s ago", sole.ServerID, sole.RaftAddr, age.Round(time.Second))
}

func samePlace(q *protocol.FoundGroupBody, number int, raftAddr, clientAddr string) bool {
	return q.Number == number && (q.RaftAddr == raftAddr || q.ClientAddr == clientAddr)
}

func hasNumber(serverID string, number int) bool {
	return strings.HasPrefix(serverID, fmt.Sprintf("%d-", number))
}

// report takes in who is in a group. It fails with errStaleReport if that was said of an earlier term or configuration than what is
// known, and there is no reason to think that the group was founded anew since.
func (m *groupMemory) report(r protocol.GroupMembersBody) error {
	if err := checkReport(&r); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key, now := groupKey(r.Cluster, r.Group), m.now()
	g := m.groups[key]
	if g.Report != nil && g.stale(&r, now) {
		return fmt.Errorf("%w: term %d, entry %d, known are term %d, entry %d", errStaleReport,
			r.Term, r.ConfigurationIndex, g.Report.Term, g.Report.ConfigurationIndex)
	}
	next := knownGroup{Cluster: r.Cluster, Group: r.Group, Report: &r, Reported: now.UnixMilli()}
	if g.Report != nil && sameReport(g.Report, &r) && now.Sub(time.UnixMilli(g.Reported)) < membersFresh {
		return nil
	}
	return m.put(key, next)
}

func checkReport(r *protocol.GroupMembersBody) error {
	if !ValidName(r.Cluster) || !ValidName(r.Group) || !ValidName(r.Leader) || len(r.Members) == 0 || len(r.Members) > membersMax {
		return fmt.Errorf("%w: cluster %.100q, group %.100q, leader %.100q, %d members", ErrInvalid, r.Cluster, r.Group, r.Leader, len(r.Members))
	}
	for _, member := range r.Members {
		if !ValidName(member.ServerID) || !ValidAddress(member.RaftAddr) || member.ClientAddr != "" && !ValidAddress(member.ClientAddr) {
			return fmt.Errorf("%w: member %.100q at %.100q and %.100q", ErrInvalid, member.ServerID, member.RaftAddr, member.ClientAddr)
		}
	}
	return nil
}

// stale reports whether r is older than the known report. A group that was founded anew begins with low terms again: none of its
// members was one of the former group's.
func (g *knownGroup) stale(r *protocol.GroupMembersBody, now time.Time) bool {
	known := g.Report
	if r.Term > known.Term || r.Term == known.Term && r.ConfigurationIndex >= known.ConfigurationIndex {
		return false
	}
	another := !slices.ContainsFunc(r.Members, func(member protocol.GroupMember) bool {
		return slices.ContainsFunc(known.Members, func(k protocol.GroupMember) bool { return k.ServerID == member.ServerID })
	})
	return !another || now.Sub(time.UnixMilli(g.Reported)) < membersRecent
}

func sameReport(a, b *protocol.GroupMembersBody) bool {
	return a.Term == b.Term && a.ConfigurationIndex == b.ConfigurationIndex && a.Leader == b.Leader && slices.Equal(a.Members, b.Members)
}

// forget removes a group. It is no error if it is not known.
func (m *groupMemory) forget(cluster, group string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := groupKey(cluster, group)
	if _, known := m.groups[key]; !known {
		return nil
	}
	next := maps.Clone(m.groups)
	delete(next, key)
	return m.replace(next)
}

func (m *groupMemory) put(key string, g knownGroup) error {
	if _, known := m.groups[key]; !known && len(m.groups) >= m.max {
		return fmt.Errorf("%w: %d groups are remembered", ErrLimit, m.max)
	}
	next := maps.Clone(m.groups)
	next[key] = g
	return m.replace(next)
}

// replace writes the groups and then takes them as known.
func (m *groupMemory) replace(next map[string]knownGroup) error {
	text, err := encodeGroups(next)
	if err == nil {
		err = m.file.write(text)
	}
	if err != nil {
		return fmt.Errorf("write the memory of groups: %w", err)
	}
	m.groups = next
	return nil
}
