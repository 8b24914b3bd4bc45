package store

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"rmq/store/message"
)

// driver runs random operations on a store and its twin. dice(n) gives the next choice below n.
type driver struct {
	*rig
	twin  *twin
	dice  func(n int) int
	rnd   *rand.Rand
	clock int64
	count int
}

func newDriver(t testing.TB, dice func(n int) int, seed uint64) *driver {
	r := &rig{t: t, log: &memLog{gap: 24}, fs: newMemFS(), o: Options{KeyIndex: true, segmentBlocks: 8, keyRunEntries: 200}}
	r.open()
	t.Cleanup(func() { _ = r.Store.Close() })
	return &driver{rig: r, twin: newTwin(), dice: dice, rnd: rand.New(rand.NewPCG(seed, 1)), clock: 1000}
}

func (d *driver) topic() string { return []string{"T", "TopicB", "c"}[d.dice(3)] }
func (d *driver) group() string { return []string{"G", "groupB"}[d.dice(2)] }
func (d *driver) queue() int32  { return []int32{0, 1, 2, 7, -3}[d.dice(5)] }
func (d *driver) tick() int64   { d.clock += int64(d.dice(3)); return d.clock }
func (d *driver) target() int64 { return int64(d.dice(500)) }
func (d *driver) logPos() int64 { return int64(d.dice(len(d.log.data) + 1)) }

func (d *driver) step() {
	switch d.dice(22) {
	case 0, 1, 2, 3:
		d.send(1 + d.dice(3))
	case 4, 5:
		d.send(1 + d.dice(150))
	case 6:
		d.park()
	case 7:
		d.fire()
	case 8:
		d.topicCommand()
	case 9:
		d.groupCommand()
	case 10, 11:
		d.offsetCommand()
	case 12:
		d.lockCommand()
	case 13:
		k, v := "k"+strconv.Itoa(d.dice(3)), []string{"", "x", "y"}[d.dice(3)]
		d.put(PutConfig(k, v))
		if v == "" {
			delete(d.twin.settings, k)
		} else {
			d.twin.settings[k] = v
		}
	case 14:
		offset := d.logPos()
		d.twin.doTrim(offset, d.put(Trim(offset)))
	case 15, 16:
		d.checkpoint()
		d.log.unlink(d.Floor())
	case 17:
		d.reopen()
	case 18:
		d.crash()
	case 19:
		d.stampAhead()
	case 20:
		d.damage()
	case 21:
		d.twin.check(d.t, d.Store)
	}
}

func (d *driver) random() msg {
	d.count++
	m := msg{topic: d.topic(), queue: d.queue(), body: "body" + strconv.Itoa(d.count), time: d.tick()}
	if d.dice(2) == 0 {
		m.tag = []string{"a", "b", "long tag"}[d.dice(3)]
	}
	if d.dice(3) > 0 {
		m.uniq = "U" + strconv.Itoa(d.count)
	}
	if d.dice(3) == 0 {
		m.keys = fmt.Sprintf("k%d  k%d ", d.dice(5), d.dice(5))
	}
	return m
}

// send appends one record of n messages.
func (d *driver) send(n int) {
	var items [][]byte
	var ms []msg
	for range n {
		m := d.random()
		ms = append(ms, m)
		items = append(items, m.encode())
	}
	at := d.put(items...)
	for i, m := range ms {
		d.twin.message(m, at, 0)
		at += int64(len(items[i]))
	}
}

func (d *driver) park() {
	m := d.random()
	at := d.clock + int64(d.dice(50))
	m.topic, m.queue = []string{message.TopicSchedule, message.TopicTimerWheel}[d.dice(2)], int32(d.dice(3))
	switch d.dice(4) {
	case 0:
		at = m.time // without a time it is due since it was stored
	case 1:
		m.props, at = []string{message.PropertyTimerOutMS, "soon"}, m.time
	default:
		m.props = []string{message.PropertyTimerOutMS, strconv.FormatInt(at, 10)}
	}
	d.twin.message(m, d.put(m.encode()), at)
}

// fire delivers what is due, or re-appends what holds back a trim.
func (d *driver) fire() {
	due := d.DueTimers(d.clock, 1+d.dice(5))
	if d.dice(3) == 0 {
		due = d.TimersBelow(d.logPos(), 1+d.dice(5))
	}
	if len(due) == 0 {
		return
	}
	m := d.random()
	var offsets []int64
	for _, t := range due {
		offsets = append(offsets, t.Offset)
		delete(d.twin.timers, t.Offset)
	}
	command := FireTimers(offsets)
	d.twin.message(m, d.put(command, m.encode())+int64(len(command)), 0)
}

func (d *driver) topicCommand() {
	name, now := d.topic(), d.tick()
	if d.dice(3) == 0 {
		d.put(DeleteTopic(now, name))
		d.twin.deleteTopic(now, name)
		return
	}
	c := TopicConfig{Name: name, ReadQueues: int32(1 + d.dice(2)), WriteQueues: 4, Perm: 6, FilterType: "SINGLE_TAG"}
	if d.dice(2) == 0 {
		c.Attributes = map[string]string{"message.type": "NORMAL", "x": strconv.Itoa(d.dice(2))}
	}
	d.put(PutTopic(now, c))
	d.twin.putTopic(now, c)
}

func (d *driver) groupCommand() {
	name, now := d.group(), d.tick()
	if d.dice(3) == 0 {
		clean := d.dice(2) == 0
		d.put(DeleteGroup(now, name, clean))
		d.twin.deleteGroup(now, name, clean)
		return
	}
	g := GroupConfig{Name: name, ConsumeEnable: true, RetryQueueNums: int32(d.dice(2)), RetryMaxTimes: 16,
		RetryPolicy: RetryPolicy{Type: "CUSTOMIZED", Customized: []int64{1000, 5000}[:d.dice(3)]}}
	if d.dice(2) == 0 {
		g.Subscriptions = []Subscription{{Topic: "T", Expression: "*", ExpressionType: "TAG", Version: 3}}
	}
	d.put(PutGroup(now, g))
	if len(g.RetryPolicy.Customized) == 0 {
		g.RetryPolicy.Customized = nil
	}
	d.twin.putGroup(now, g)
}

func (d *driver) offsetCommand() {
	group, topic, queue := d.group(), d.topic(), d.queue()
	switch d.dice(4) {
	case 0:
		r := OffsetReset{Group: group, Topic: topic, Queue: queue, Target: d.target()}
		d.put(ResetOffsets([]OffsetReset{r}))
		d.twin.reset(r)
	case 1:
		c := ResetClear{Group: group, Topic: topic, Queue: queue, Epoch: d.OffsetEpoch(group, topic, queue) - int64(d.dice(2))}
		d.put(ClearResets([]ResetClear{c}))
		d.twin.clear(c)
	default:
		var commits []OffsetCommit
		for range 1 + d.dice(3) {
			c := OffsetCommit{Group: group, Topic: topic, Queue: d.queue(), Offset: d.target()}
			if d.dice(2) == 0 {
				c.Epoch = d.OffsetEpoch(group, topic, c.Queue) - int64(d.dice(2))
			}
			commits = append(commits, c)
			d.twin.commit(c)
		}
		d.put(CommitOffsets(commits))
	}
}

func (d *driver) lockCommand() {
	c := LockChange{Group: d.group(), Topic: d.topic(), Queue: d.queue()}
	owner := []string{"", "client1", "client2"}[d.dice(3)]
	if owner == "" {
		delete(d.twin.locks, c)
	} else {
		d.twin.locks[c] = owner
	}
	c.Owner = owner
	d.put(SetLocks([]LockChange{c}))
}

// crash cuts the power and starts again.
func (d *driver) crash() {
	d.t.Helper()
	after := d.fs.crash(d.rnd)
	if err := d.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.fs = after
	d.open()
}

// stampAhead stamps records that never get committed, and takes them back.
func (d *driver) stampAhead() {
	d.t.Helper()
	at := d.log.next()
	for range 1 + d.dice(3) {
		record := d.random().encode()
		if d.dice(4) == 0 {
			record = DeleteTopic(d.clock, d.topic())
		}
		if err := d.Stamp(record, at); err != nil {
			d.t.Fatal(err)
		}
		at += int64(len(record) + d.log.gap)
	}
	d.restamp()
}

// damage spoils one file, reopens and expects nothing to be lost. The older checkpoint alone cannot be spared: if no good
// one is left and the log is trimmed, the store has to refuse.
func (d *driver) damage() {
	d.t.Helper()
	files := slices.Concat(d.fs.files(rigDir, "queue-"), d.fs.files(rigDir, "keys-"))
	if points := d.fs.files(rigDir, "checkpoint-"); len(points) == checkpointsKept || d.log.min == 0 && len(points) > 0 {
		files = append(files, points[len(points)-1])
	}
	if len(files) == 0 {
		return
	}
	if err := d.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.fs.damage(files[d.dice(len(files))], func(b []byte) []byte {
		switch {
		case len(b) == 0:
		case d.dice(3) == 0:
			return b[:d.dice(len(b))]
		case d.dice(2) == 0:
			b[d.dice(len(b))] ^= 1 << d.dice(8)
		default:
			from := d.dice(len(b))
			clear(b[from:min(len(b), from+1+d.dice(5000))])
		}
		return b
	})
	d.open()
}

// finish compares once more, and with a store that never restarted.
func (d *driver) finish() {
	d.t.Helper()
	d.twin.check(d.t, d.Store)
	fresh := &rig{t: d.t, log: &memLog{gap: d.log.gap, data: d.log.data, records: d.log.records}, fs: newMemFS()}
	fresh.open()
	defer fresh.Close()
	if got, want := d.Digest(), fresh.Digest(); got != want {
		d.t.Fatalf("digest %s, a store that never restarted has %s", got, want)
	}
}

func TestModel(t *testing.T) {
	steps, seeds := 400, 12
	if testing.Short() {
		seeds = 5
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			d := newDriver(t, rnd.IntN, seed)
			for range steps {
				d.step()
			}
			d.finish()
		})
	}
}
