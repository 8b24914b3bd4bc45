package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fill sends n messages, numbered on from the last call, over two queues, and some state of every kind.
func (r *rig) fill(n int) {
	r.t.Helper()
	for i := r.filled; i < r.filled+n; i++ {
		items := [][]byte{msg{topic: "T", queue: int32(i % 2), body: fmt.Sprint(i), uniq: fmt.Sprint("u", i), time: int64(i)}.encode()}
		if i%50 == 0 {
			items = append(items, CommitOffsets([]OffsetCommit{{Group: "G", Topic: "T", Offset: int64(i)}}),
				PutTopic(int64(i), TopicConfig{Name: "T", Perm: int32(i)}), PutGroup(int64(i), GroupConfig{Name: "G", RetryMaxTimes: int32(i)}),
				SetLocks([]LockChange{{Group: "G", Topic: "T", Owner: fmt.Sprint(i)}}), PutConfig("k", fmt.Sprint(i)))
		}
		r.put(items...)
	}
	r.filled += n
}

// expectAll checks that both queues hold all messages from their min on.
func (r *rig) expectAll() {
	r.t.Helper()
	for id := range int32(2) {
		q := QueueID{"T", id}
		low, top := r.MinOffset(q), r.MaxOffset(q)
		for at := low; at < top; {
			res, err := r.Fetch(FetchRequest{Queue: q, Offset: at, MaxMessages: 100}, nil)
			if err != nil || res.Status != Found {
				r.t.Fatalf("fetch %v at %d: %+v, %v", q, at, res.Status, err)
			}
			for i, body := range bodies(r.t, res.Messages) {
				if want := fmt.Sprint(2*(at+int64(i)) + int64(id)); body != want {
					r.t.Fatalf("%v at %d holds %s, want %s", q, at+int64(i), body, want)
				}
			}
			at = res.NextOffset
		}
	}
}

// newSmallRig has block files of 4 blocks and key runs of 100 entries.
func newSmallRig(t testing.TB) *rig {
	r := &rig{t: t, log: &memLog{gap: 24}, fs: newMemFS(), o: Options{KeyIndex: true, segmentBlocks: 4, keyRunEntries: 100}}
	r.open()
	t.Cleanup(func() { _ = r.Store.Close() })
	return r
}

// TestCrashAtEveryFileOperation cuts the power before each file operation of filling and checkpointing.
func TestCrashAtEveryFileOperation(t *testing.T) {
	run := func(r *rig) (err error) {
		r.fill(700)
		for range 3 {
			snap, err := r.Snapshot()
			if err != nil {
				return err
			}
			if err := snap.Persist(); err != nil {
				return err
			}
			r.fill(150)
		}
		return nil
	}
	boom := errors.New("power cut")
	for stop := 0; ; stop++ {
		r := newSmallRig(t)
		rnd := rand.New(rand.NewPCG(uint64(stop), 2))
		operations, after := 0, (*memFS)(nil)
		r.fs.failWith(func(op, name string) error {
			if operations++; operations <= stop {
				return nil
			}
			return &fs.PathError{Op: op, Path: name, Err: boom}
		})
		// The log is ahead of the store: what it holds is committed whether or not the store lives to see it.
		full := newSmallRig(t)
		if err := run(full); err != nil {
			t.Fatal(err)
		}
		for _, rec := range full.log.records {
			r.log.append(full.log.record(rec)[:rec.size:rec.size])
		}
		err := replayWithCheckpoints(r)
		after = r.fs.crash(rnd)
		_ = r.Close()
		r.fs = after
		r.open()
		r.expectAll()
		if got, want := r.Digest(), full.Digest(); got != want {
			t.Fatalf("cut before operation %d: digest differs", stop)
		}
		if err == nil {
			if stop < 20 {
				t.Fatalf("only %d file operations", stop)
			}
			return
		}
		if !errors.Is(err, boom) {
			t.Fatal(err)
		}
		stop += stop / 8
	}
}

// replayWithCheckpoints applies the log with a checkpoint now and then, until something fails.
func replayWithCheckpoints(r *rig) error {
	for i, rec := range r.log.from(r.AppliedOffset()) {
		r.Apply(r.log.record(rec), rec.offset)
		if i%300 != 299 {
			continue
		}
		snap, err := r.Snapshot()
		if err == nil {
			err = snap.Persist()
		}
		if err != nil {
			return err
		}
	}
	return r.Err()
}

func TestDamagedCheckpointFallsBack(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"flipped bit in the header": func(b []byte) []byte { b[17] ^= 1; return b },
		"flipped bit in a section":  func(b []byte) []byte { b[len(b)/2] ^= 4; return b },
		"flipped bit at the end":    func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"cut short":                 func(b []byte) []byte { return b[:len(b)-16] },
		"cut in a section":          func(b []byte) []byte { return b[:len(b)/2] },
		"zeroed":                    func(b []byte) []byte { clear(b); return b },
		"empty":                     func([]byte) []byte { return nil },
		"huge section":              func(b []byte) []byte { binary.BigEndian.PutUint32(b[checkpointHeader+4:], 1<<31); return b },
	} {
		t.Run(name, func(t *testing.T) {
			r := newSmallRig(t)
			r.fill(300)
			r.checkpoint()
			first := r.AppliedOffset()
			r.fill(300)
			r.checkpoint()
			r.fill(20)
			want := r.Digest()
			points := r.fs.files(rigDir, "checkpoint-")
			r.fs.damage(points[1], change)
			r.Close()
			s, err := Open(rigDir, r.log, r.o)
			if err != nil || s.AppliedOffset() != first {
				t.Fatalf("opened at %d, %v; the good checkpoint is of %d", s.AppliedOffset(), err, first)
			}
			s.Close()
			r.open()
			if r.Digest() != want {
				t.Fatal("digest changed")
			}
			r.checkpoint()
			r.reopen()
			if r.Digest() != want {
				t.Fatal("digest changed after the next checkpoint")
			}
		})
	}
}

func TestNoUsableCheckpoint(t *testing.T) {
	r := newSmallRig(t)
	r.fill(400)
	r.checkpoint()
	r.fill(400)
	r.checkpoint()
	want := r.Digest()
	r.Close()
	for _, p := range r.fs.files(rigDir, "checkpoint-") {
		r.fs.damage(p, func(b []byte) []byte { return b[:10] })
	}
	r.open() // the log is whole: everything comes from it
	r.expectAll()
	if r.Digest() != want {
		t.Fatal("digest changed")
	}
	r.Close()
	r.log.min = 1
	if _, err := Open(rigDir, r.log, r.o); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened without a state to go on from: %v", err)
	}
	for _, p := range r.fs.files(rigDir, "checkpoint-") {
		r.fs.Remove(p)
	}
	if _, err := Open(rigDir, r.log, r.o); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("opened empty over a trimmed log: %v", err)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		prefix  string
		version int
		sum     func(b []byte)
	}{
		"checkpoint": {"checkpoint-", 8, func(b []byte) { binary.BigEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli)) }},
		"blocks":     {"queue-", 8, func(b []byte) { binary.BigEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli)) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSmallRig(t)
			r.fill(300)
			r.checkpoint()
			r.fill(300)
			r.checkpoint()
			r.Close()
			files := r.fs.files(rigDir, c.prefix)
			r.fs.damage(files[len(files)-1], func(b []byte) []byte {
				binary.BigEndian.PutUint32(b[c.version:], 99)
				c.sum(b)
				return b
			})
			if _, err := Open(rigDir, r.log, r.o); !errors.Is(err, ErrVersion) {
				t.Fatalf("opened a newer format: %v", err)
			}
		})
	}
}

// TestDamagedBlockFiles: whatever happens to the block files, nothing is lost while the log has the messages.
func TestDamagedBlockFiles(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"zeroed":          func(b []byte) []byte { clear(b); return b },
		"empty":           func([]byte) []byte { return nil },
		"cut in labels":   func(b []byte) []byte { return b[:segmentHeader+labelBytes+3] },
		"cut in blocks":   func(b []byte) []byte { return b[:len(b)-blockBytes-5] },
		"header":          func(b []byte) []byte { b[0] ^= 1; return b },
		"one label":       func(b []byte) []byte { b[segmentHeader+labelBytes+9] ^= 1; return b },
		"all labels":      func(b []byte) []byte { clear(b[segmentHeader : segmentHeader+4*labelBytes]); return b },
		"one block":       func(b []byte) []byte { b[len(b)-blockBytes/2] ^= 1; return b },
		"label and block": func(b []byte) []byte { b[segmentHeader] ^= 1; b[segmentHeader+4*labelBytes] ^= 1; return b },
		"blocks swapped": func(b []byte) []byte {
			at := segmentHeader + 4*labelBytes
			first := slices.Clone(b[at : at+blockBytes])
			copy(b[at:], b[at+blockBytes:at+2*blockBytes])
			copy(b[at+blockBytes:], first)
			return b
		},
	} {
		for _, which := range []string{"first", "middle", "last", "all", "removed"} {
			t.Run(name+" "+which, func(t *testing.T) {
				r := newSmallRig(t)
				r.fill(1400)
				r.put(DeleteTopic(1, "gone"))
				r.checkpoint()
				want := r.Digest()
				r.Close()
				files := r.fs.files(rigDir, "queue-")
				for i, f := range files {
					switch {
					case which == "removed" && i == 1:
						r.fs.Remove(f)
					case which == "all", which == "first" && i == 0, which == "middle" && i == 2, which == "last" && i == len(files)-1:
						r.fs.damage(f, change)
					}
				}
				r.open()
				r.expectAll()
				r.checkpoint()
				r.o.Fatal = func(err error) { t.Error(err) }
				r.log.min = 0
				broken := &struct{ Log }{r.log} // repaired files need no log to scan
				r.Close()
				s, err := Open(rigDir, broken, r.o)
				if err != nil {
					t.Fatal(err)
				}
				r.Store = s
				r.expectAll()
				if r.Digest() != want {
					t.Fatal("digest changed")
				}
			})
		}
	}
}

// TestDamageWithoutScan: a log that cannot be scanned gives errors, not wrong answers.
func TestDamageWithoutScan(t *testing.T) {
	r := newSmallRig(t)
	r.fill(1400)
	r.checkpoint()
	r.Close()
	plain := &struct{ Log }{r.log}
	r.fs.damage(r.fs.files(rigDir, "queue-")[0], func(b []byte) []byte { b[segmentHeader+4*labelBytes+100] ^= 1; return b })
	s, err := Open(rigDir, plain, r.o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Fetch(FetchRequest{Queue: QueueID{"T", 0}}, nil); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("fetch over a damaged block: %v", err)
	}
	if err := s.Err(); err != nil {
		t.Fatalf("a reader's trouble stopped the store: %v", err)
	}
	s.Close()
	r.fs.damage(r.fs.files(rigDir, "queue-")[0], func([]byte) []byte { return nil })
	if _, err := Open(rigDir, plain, r.o); !errors.Is(err, ErrCorrupt) && err != nil {
		t.Fatalf("open: %v", err)
	}
}

// TestFloorAndFiles: the floor follows the newest checkpoint's trim, but not past the applied offset of the one before; files
// that no kept checkpoint needs go away.
func TestFloorAndFiles(t *testing.T) {
	r := newSmallRig(t)
	r.fill(1000)
	if r.Floor() != 0 {
		t.Fatal("a floor without a checkpoint")
	}
	r.checkpoint()
	if r.Floor() != 0 {
		t.Fatal("a floor with one checkpoint")
	}
	firstApplied := r.AppliedOffset()
	r.fill(1000)
	trim := r.AppliedOffset()
	r.put(Trim(trim))
	r.checkpoint()
	if got := r.Floor(); got != firstApplied {
		t.Fatalf("floor %d, the older checkpoint is of %d", got, firstApplied)
	}
	blocks := len(r.fs.files(rigDir, "queue-"))
	r.fill(2)
	r.checkpoint()
	if got := r.Floor(); got != trim {
		t.Fatalf("floor %d, trimmed to %d", got, trim)
	}
	r.fill(2)
	r.checkpoint()
	if got := len(r.fs.files(rigDir, "queue-")); got != 1 || blocks < 4 {
		t.Fatalf("%d block files, were %d", got, blocks)
	}
	if got := r.fs.files(rigDir, "checkpoint-"); len(got) != 2 {
		t.Fatalf("checkpoints %v", got)
	}
	for _, f := range r.fs.files(rigDir, "keys-") {
		if !slices.Contains(r.keys.names(), filepath.Base(f)) && !slices.Contains(slices.Concat(r.kept[0].files, r.kept[1].files), filepath.Base(f)) {
			t.Errorf("key run %s is in nobody's use", f)
		}
	}
	if f, err := r.fs.Create(filepath.Join(rigDir, "somebody-else")); err != nil {
		t.Fatal(err)
	} else {
		f.Close()
	}
	r.checkpoint()
	if got := r.fs.files(rigDir, "somebody"); len(got) != 1 {
		t.Fatal("a file of another was removed")
	}
	r.log.unlink(r.Floor())
	r.reopen()
	r.expectAllFrom(trim)
}

func (r *rig) expectAllFrom(trim int64) {
	r.t.Helper()
	for id := range int32(2) {
		q := QueueID{"T", id}
		if e, ok := r.Entry(q, r.MinOffset(q)); !ok || e.Phys < trim {
			r.t.Fatalf("%v begins at %+v %v", q, e, ok)
		}
	}
}

// TestStaleCaptureIsNotPublished: of two captures persisted in the wrong order the newer one stays.
func TestStaleCaptureIsNotPublished(t *testing.T) {
	r := newSmallRig(t)
	r.fill(10)
	older, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	r.fill(10)
	r.checkpoint()
	want := r.fs.files(rigDir, "checkpoint-")
	if err := older.Persist(); err != nil {
		t.Fatal(err)
	}
	if got := r.fs.files(rigDir, "checkpoint-"); !slices.Equal(got, want) {
		t.Fatalf("checkpoints %v, want %v", got, want)
	}
}

// TestCaptureDoesNotChange: what Apply does between Snapshot and Persist is not in the checkpoint.
func TestCaptureDoesNotChange(t *testing.T) {
	r := newSmallRig(t)
	r.fill(500)
	park := func(at string) []byte {
		return msg{topic: "SCHEDULE_TOPIC_XXXX", props: []string{"TIMER_OUT_MS", at}}.encode()
	}
	parked := r.put(park("7"))
	snap, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want, applied := r.Digest(), r.AppliedOffset()
	r.put(FireTimers([]int64{parked}), park("3"))
	r.fill(500)
	if err := snap.Persist(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	s, err := Open(rigDir, r.log, r.o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.AppliedOffset() != applied || s.Digest() != want {
		t.Fatalf("the checkpoint is of %d, captured at %d", s.AppliedOffset(), applied)
	}
	(&rig{t: t, Store: s}).expectAll()
}

// TestRebuildKnowsIncarnations: messages of a deleted topic have the same queue offsets as those of its successor.
func TestRebuildKnowsIncarnations(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"at open": func([]byte) []byte { return nil },
		"at read": func(b []byte) []byte { clear(b[segmentHeader+4*labelBytes+100:]); return b },
	} {
		t.Run(name, func(t *testing.T) {
			r := newSmallRig(t)
			old := msg{topic: "T", body: "old"}.encode()
			for range 400 {
				r.put(old)
			}
			r.put(DeleteTopic(1, "T"))
			r.fill(700)
			r.checkpoint()
			r.Close()
			for _, f := range r.fs.files(rigDir, "queue-") {
				r.fs.damage(f, change)
			}
			r.open()
			r.expectAll()
		})
	}
}

func TestOpenNeedsAFileSystem(t *testing.T) {
	if _, err := Open("x", &memLog{}, Options{}); err == nil || !strings.Contains(err.Error(), "FS") {
		t.Fatalf("%v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "below"), &memLog{}, Options{FS: dirFS{}}); err == nil {
		t.Fatal("opened below a file")
	}
}

// TestOnTheRealFileSystem: once without the file system in memory.
func TestOnTheRealFileSystem(t *testing.T) {
	log := &memLog{gap: 24}
	dir := filepath.Join(t.TempDir(), "a", "store")
	r := &rig{t: t, log: log}
	open := func() {
		s, err := Open(dir, log, Options{FS: dirFS{}, KeyIndex: true, segmentBlocks: 4, keyRunEntries: 100})
		if err != nil {
			t.Fatal(err)
		}
		r.Store = s
		r.restamp()
		r.replay()
	}
	open()
	for range 3 {
		r.fill(300)
		r.checkpoint()
	}
	r.fill(300)
	want := r.Digest()
	r.Close()
	open()
	defer r.Close()
	if r.Digest() != want {
		t.Fatal("digest changed")
	}
	if res := queryByKey(t, r.Store, "T", "u5", true); len(res.Messages) != 1 {
		t.Fatalf("%d messages by key", len(res.Messages))
	}
}
