package store

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"
)

// FuzzRaftCommand applies arbitrary bytes as a record. They either are carried out or stop the store; Stamp refuses what
// Apply would stop at for its form.
func FuzzRaftCommand(f *testing.F) {
	for _, record := range [][]byte{
		PutTopic(5, TopicConfig{Name: "T", Attributes: map[string]string{"a": "b"}}), DeleteTopic(6, "T"),
		PutGroup(7, GroupConfig{Name: "G", Subscriptions: []Subscription{{"T", "*", "TAG", 1}}}), DeleteGroup(8, "G", true),
		CommitOffsets([]OffsetCommit{{"G", "T", 1, 2, 3}}), ResetOffsets([]OffsetReset{{"G", "T", 1, 2}}), ClearResets([]ResetClear{{"G", "T", 1, 2}}),
		FireTimers([]int64{1, 2}), SetLocks([]LockChange{{"G", "T", 1, "c"}}), Trim(5), PutConfig("k", "v"),
		msg{topic: "T", body: "b", keys: "k", uniq: "u", tag: "t"}.encode(), msg{topic: "SCHEDULE_TOPIC_XXXX", props: []string{"TIMER_OUT_MS", "5"}}.encode(),
		slices.Concat(PutConfig("k", "v"), msg{topic: "T"}.encode()), {0, 0, 0, 8, 1, 2, 3, 4}, nil,
	} {
		f.Add(record, true)
		f.Add(record, false)
	}
	f.Fuzz(func(t *testing.T, record []byte, mend bool) {
		if mend { // so that mutations get past the checksum
			mendCommand(record)
		}
		r := newRig(t)
		r.put(msg{topic: "T", body: "first"}.encode(), msg{topic: "SCHEDULE_TOPIC_XXXX"}.encode())
		at := r.log.next()
		stampErr := r.Stamp(record, at)
		r.log.append(record)
		r.Apply(record, at)
		r.Applied(at + int64(len(record)))
		if err := r.Err(); err != nil {
			if got := r.AppliedOffset(); got > at {
				t.Fatalf("stopped at %d and yet applied %d", at, got)
			}
		} else {
			if stampErr != nil {
				t.Fatalf("applied what Stamp refused: %v", stampErr)
			}
			want := r.Digest()
			r.checkpoint()
			r.reopen()
			if r.Digest() != want {
				t.Fatal("a checkpoint changed the state")
			}
		}
		if r.MaxOffset(QueueID{"T", 0}) > 0 {
			if _, err := r.Fetch(FetchRequest{Queue: QueueID{"T", 0}}, nil); err != nil {
				t.Fatalf("fetch: %v", err)
			}
		}
	})
}

// mendCommand makes size, magic and checksum of a record's first item right.
func mendCommand(b []byte) {
	if len(b) < commandBytesMin {
		return
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	binary.BigEndian.PutUint32(b[4:], CommandMagic)
	sum := b[len(b)-4:]
	binary.BigEndian.PutUint32(sum, crc32.Checksum(b[:len(b)-4], castagnoli))
}

// FuzzStoreOps lets the input choose the operations of the model test.
func FuzzStoreOps(f *testing.F) {
	for seed := range byte(8) {
		var ops []byte
		for i := range 150 {
			ops = append(ops, byte(i)*(2*seed+1)+seed)
		}
		f.Add(ops)
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		dice := func(n int) int {
			if len(ops) == 0 {
				return 0
			}
			c := int(ops[0])
			ops = ops[1:]
			if n > 256 && len(ops) > 0 {
				c = c<<8 | int(ops[0])
				ops = ops[1:]
			}
			return c % n
		}
		d := newDriver(t, dice, uint64(len(ops)))
		for steps := 0; len(ops) > 0 && steps < 200; steps++ {
			d.step()
		}
		d.finish()
	})
}

// FuzzConsumeQueueOpen opens a store whose block files hold arbitrary bytes: nothing may be lost or made up.
func FuzzConsumeQueueOpen(f *testing.F) {
	r := newSmallRig(f)
	r.fill(700)
	r.checkpoint()
	want := r.Digest()
	files := r.fs.files(rigDir, "queue-")
	for _, name := range files {
		r.fs.damage(name, func(b []byte) []byte {
			f.Add(slices.Clone(b), uint8(0), uint16(0))
			f.Add(slices.Clone(b[:len(b)/2]), uint8(1), uint16(100))
			return b
		})
	}
	f.Add([]byte{}, uint8(1), uint16(3))
	clean := r.fs.clone()
	f.Fuzz(func(t *testing.T, content []byte, which uint8, at uint16) {
		c := &rig{t: t, log: r.log, fs: clean.clone(), o: r.o, filled: r.filled}
		c.fs.damage(files[int(which)%len(files)], func(b []byte) []byte {
			if at == 0 {
				return content
			}
			copy(b[int(at)%len(b):], content)
			return b
		})
		c.open()
		defer c.Close()
		c.expectAll()
		if got := c.Digest(); got != want {
			t.Fatal("digest changed")
		}
	})
}
