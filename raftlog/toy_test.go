package raftlog

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// toy is a state machine for tests. A record is a run of items: size uint32, serial uint64 (all-ones until stamped), offset uint64
// (likewise), payload. The serial numbers count items, so that every item that is lost, doubled or moved shows.
type toy struct {
	fs  FS
	dir string

	mu      sync.Mutex
	next    uint64 // Stamp's counter
	state   toyState
	floor   int64
	applies int              // Apply calls that were not skipped
	seen    map[uint64]int64 // serial to offset of what was applied since open
	wake    chan struct{}
}

type toyState struct {
	Serial uint64 // next serial
	End    int64  // applied offset
	Floor  int64
}

const toyHeader = 20

// toyItem encodes one blank item.
func toyItem(payload []byte) []byte {
	b := make([]byte, toyHeader, toyHeader+len(payload))
	binary.BigEndian.PutUint32(b, uint32(toyHeader+len(payload)))
	for i := 4; i < toyHeader; i++ {
		b[i] = 0xFF
	}
	return append(b, payload...)
}

// toyItems splits a record.
func toyItems(record []byte, visit func(item []byte, at int)) error {
	for at := 0; at < len(record); {
		if len(record)-at < toyHeader {
			return errors.New("toy item is cut")
		}
		n := int(binary.BigEndian.Uint32(record[at:]))
		if n < toyHeader || n > len(record)-at {
			return fmt.Errorf("toy item of %d bytes", n)
		}
		visit(record[at:at+n], at)
		at += n
	}
	return nil
}

func toySerial(item []byte) uint64 { return binary.BigEndian.Uint64(item[4:]) }

func openToy(fsys FS, dir string) (*toy, error) {
	t := &toy{fs: fsys, dir: dir, seen: make(map[uint64]int64), wake: make(chan struct{}, 1)}
	if err := makeDir(fsys, dir); err != nil {
		return nil, err
	}
	b, err := readFile(fsys, filepath.Join(dir, "state"), 4096)
	if err == nil {
		err = json.Unmarshal(b, &t.state)
	} else if isNotExist(err) {
		err = nil
	}
	t.floor = t.state.Floor
	return t, err
}

func (t *toy) Stamp(record []byte, offset int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var bad error
	err := toyItems(record, func(item []byte, at int) {
		fill := func(b []byte, v uint64) {
			switch old := binary.BigEndian.Uint64(b); old {
			case ^uint64(0):
				binary.BigEndian.PutUint64(b, v)
			case v:
			default:
				bad = fmt.Errorf("item is stamped %d, expected %d", old, v)
			}
		}
		fill(item[4:], t.next)
		fill(item[12:], uint64(offset+int64(at)))
		t.next++
	})
	return errors.Join(err, bad)
}

func (t *toy) Rewind() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next = t.state.Serial
	return t.state.End
}

func (t *toy) Apply(record []byte, offset int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if offset < t.state.End {
		return
	}
	t.applies++
	err := toyItems(record, func(item []byte, at int) {
		if s := toySerial(item); s != t.state.Serial {
			panic(fmt.Sprintf("toy: item %d applied when %d is due", s, t.state.Serial))
		}
		t.seen[t.state.Serial] = offset + int64(at)
		t.state.Serial++
	})
	if err != nil {
		panic(err)
	}
	t.state.End = offset + int64(len(record))
}

func (t *toy) Applied(end int64) {
	t.mu.Lock()
	t.state.End = max(t.state.End, end)
	t.mu.Unlock()
	notify(t.wake)
}

func (t *toy) AppliedOffset() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.End
}

func (t *toy) Floor() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.floor
}

func (t *toy) setFloor(off int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.Floor = off
}

func (t *toy) counts() (serial uint64, applies int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.Serial, t.applies
}

type toySnapshot struct {
	t     *toy
	state toyState
}

func (t *toy) Snapshot() (Snapshot, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &toySnapshot{t, t.state}, nil
}

func (s *toySnapshot) Persist() error {
	b, err := json.Marshal(s.state)
	if err != nil {
		return err
	}
	if err := replaceFile(s.t.fs, s.t.dir, filepath.Join(s.t.dir, "state"), b); err != nil {
		return err
	}
	s.t.mu.Lock()
	s.t.floor = s.state.Floor
	s.t.mu.Unlock()
	return nil
}

func (s *toySnapshot) Release() {}

func soloServers() []raft.Server { return []raft.Server{{ID: "0", Address: "solo"}} }

// node is one running replica of a test.
type node struct {
	t   testing.TB
	log *Log
	sm  *toy
}

// startSolo opens dir, founds a group of one if it is empty, and waits until it leads.
func startSolo(t testing.TB, dir string, o Options) *node {
	t.Helper()
	n, err := trySolo(t, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func trySolo(t testing.TB, dir string, o Options) (*node, error) {
	l, err := Open(filepath.Join(dir, "log"), o)
	if err != nil {
		return nil, err
	}
	return lead(t, dir, l)
}

// lead starts an open log as a group of one; if it cannot, it closes it.
func lead(t testing.TB, dir string, l *Log) (*node, error) {
	sm, err := openToy(l.fs, filepath.Join(dir, "sm"))
	if err != nil {
		return nil, joinClose(err, l)
	}
	has, err := l.HasState()
	if err == nil && !has {
		err = l.Bootstrap(soloServers())
	}
	if err == nil {
		err = l.Start(sm, Member{ServerID: "0", Address: "solo"})
	}
	if err != nil {
		return nil, joinClose(err, l)
	}
	n := &node{t, l, sm}
	select {
	case lead := <-l.Leadership():
		if !lead {
			return nil, joinClose(errors.New("lost leadership at once"), l)
		}
	case <-time.After(5 * time.Second):
		return nil, joinClose(errors.New("no leader within 5 s"), l)
	}
	return n, nil
}

// put appends one item and waits for the answer.
func (n *node) put(payload []byte, ack Ack) AppendResult {
	n.t.Helper()
	c := make(chan AppendResult, 1)
	if err := n.log.Append(toyItem(payload), ack, func(r AppendResult) {
		r.Record = append([]byte(nil), r.Record...)
		c <- r
	}); err != nil {
		return AppendResult{Err: err}
	}
	select {
	case r := <-c:
		return r
	case <-time.After(10 * time.Second):
		n.t.Fatal("append was not answered within 10 s")
		return AppendResult{}
	}
}

func (n *node) mustPut(payload []byte) AppendResult {
	n.t.Helper()
	r := n.put(payload, AckCommitted)
	if r.Err != nil {
		n.t.Fatal(r.Err)
	}
	return r
}

func (n *node) close() {
	n.t.Helper()
	if err := n.log.Close(); err != nil {
		n.t.Fatal(err)
	}
}
