package compat

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"rmq/compat/namesrv"
	"rmq/remoting"
	"rmq/remoting/protocol"
	"rmq/store"
)

// handClock is moved by the test; its timers fire as it passes them.
type handClock struct {
	mu     sync.Mutex
	t      time.Time
	timers map[*handTimer]bool
}

type handTimer struct {
	at time.Time
	f  func()
}

func newHandClock() *handClock {
	return &handClock{t: time.Unix(1_800_000_000, 0), timers: map[*handTimer]bool{}}
}

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *handClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := &handTimer{c.t.Add(d), f}
	c.timers[timer] = true
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := c.timers[timer]
		delete(c.timers, timer)
		return was
	}
}

// next returns the times from now at which timers are due, sorted.
func (c *handClock) next() (due []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for timer := range c.timers {
		due = append(due, timer.at.Sub(c.t))
	}
	slices.Sort(due)
	return due
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	for timer := range c.timers {
		if !timer.at.After(c.t) {
			delete(c.timers, timer)
			go timer.f()
		}
	}
}

// registered is a request of a registrar as a name server sees it.
type registered struct {
	header      protocol.RegisterBrokerRequestHeader
	version     protocol.DataVersion
	topics      map[string]protocol.TopicConfig
	incremental bool
	unregister  bool
}

func (r registered) names() []string { return slices.Sorted(maps.Keys(r.topics)) }

// scriptedNameServer passes on what it is told and answers as the test says.
type scriptedNameServer struct {
	t        *testing.T
	address  string
	requests chan registered
	server   *remoting.Server

	mu     sync.Mutex
	answer func(registered) (code protocol.ResponseCode, fields protocol.Fields, body string)
}

func startScripted(t *testing.T, address string) *scriptedNameServer {
	t.Helper()
	s := &scriptedNameServer{t: t, requests: make(chan registered, 100)}
	mux := remoting.NewMux()
	class := &remoting.Class{Name: "all", Limit: 100, Mode: remoting.Spawn}
	mux.Handle(protocol.RegisterBroker, class, s.register)
	mux.Handle(protocol.UnregisterBroker, class, func(r *remoting.Request) {
		s.requests <- registered{unregister: true}
		r.Reply(protocol.NewResponse(r.Cmd, protocol.Success, ""))
	})
	var err error
	if s.server, err = remoting.Listen(remoting.ServerOptions{Addrs: []string{address}, Mux: mux}); err != nil {
		t.Fatal(err)
	}
	s.address = s.server.Addrs()[0].String()
	t.Cleanup(s.stop)
	return s
}

func (s *scriptedNameServer) stop() {
	if err := s.server.Close(context.Background()); err != nil {
		s.t.Error(err)
	}
}

func (s *scriptedNameServer) answerWith(f func(registered) (protocol.ResponseCode, protocol.Fields, string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *scriptedNameServer) register(r *remoting.Request) {
	var got registered
	if err := got.header.Decode(r.Cmd.Ext); err != nil {
		s.t.Error(err)
	}
	if crc := int32(crc32.ChecksumIEEE(r.Cmd.Body) & 0x7fffffff); crc != got.header.BodyCrc32 {
		s.t.Errorf("checksum %d, said to be %d", crc, got.header.BodyCrc32)
	}
	body, err := protocol.DecodeRegisterBrokerBody(r.Cmd.Body, got.header.Compressed, r.Cmd.Version)
	if err != nil {
		s.t.Error(err)
		r.Done()
		return
	}
	got.version = body.TopicConfigSerializeWrapper.DataVersion
	got.topics = body.TopicConfigSerializeWrapper.TopicConfigTable
	flag, _ := r.Cmd.Ext.Get(namesrv.IncrementalField)
	got.incremental = flag == "true"
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	response := protocol.NewResponse(r.Cmd, protocol.Success, "")
	if answer != nil {
		code, fields, text := answer(got)
		response = protocol.NewResponse(r.Cmd, code, "scripted")
		response.Ext, response.Body = append(response.Ext, fields...), []byte(text)
	}
	s.requests <- got
	r.Reply(response)
}

// next returns the next request.
func (s *scriptedNameServer) next() registered {
	s.t.Helper()
	select {
	case got := <-s.requests:
		return got
	case <-time.After(10 * time.Second):
		s.t.Fatal("waited in vain for a registration")
		return registered{}
	}
}

func (s *scriptedNameServer) none() {
	s.t.Helper()
	select {
	case got := <-s.requests:
		s.t.Fatalf("unexpected registration of %v", got.names())
	default:
	}
}

// source is a broker's state as a test changes it.
type source struct {
	mu  sync.Mutex
	now Registration
}

func newSource(topics ...string) *source {
	s := &source{now: Registration{
		Cluster: "C", BrokerName: "b-a", Address: "10.0.0.1:10911", HAAddress: "10.0.0.1:10912", Permission: 6,
		Version: store.Version{StateVersion: 3, Timestamp: 100, Counter: 1},
	}}
	for _, topic := range topics {
		s.now.Topics = append(s.now.Topics, store.TopicConfig{Name: topic, ReadQueues: 4, WriteQueues: 8, Perm: 6, FilterType: "SINGLE_TAG"})
	}
	return s
}

func (s *source) get() Registration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now
	now.Topics = slices.Clone(now.Topics)
	return now
}

// put adds topics or changes their permission.
func (s *source) put(perm int32, topics ...string) {
	s.change(func(r *Registration) {
		for _, topic := range topics {
			i := slices.IndexFunc(r.Topics, func(t store.TopicConfig) bool { return t.Name == topic })
			if i < 0 {
				r.Topics = append(r.Topics, store.TopicConfig{Name: topic, ReadQueues: 4, WriteQueues: 8, FilterType: "SINGLE_TAG"})
				i = len(r.Topics) - 1
			}
			r.Topics[i].Perm = perm
		}
		slices.SortFunc(r.Topics, func(a, b store.TopicConfig) int {
			if a.Name < b.Name {
				return -1
			}
			return 1
		})
	})
}

func (s *source) change(edit func(*Registration)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now.Topics = slices.Clone(s.now.Topics)
	s.now.Version.Counter++
	edit(&s.now)
}

func startRegistrar(t *testing.T, o RegistrarOptions) *Registrar {
	t.Helper()
	client := remoting.NewClient(remoting.ClientOptions{})
	o.Client = client
	r, err := NewRegistrar(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func wantNames(t *testing.T, got registered, incremental bool, want ...string) {
	t.Helper()
	if !slices.Equal(got.names(), want) || got.incremental != incremental {
		t.Fatalf("registered were %v (incremental %v), want %v (%v)", got.names(), got.incremental, want, incremental)
	}
}

func TestRegistrarTellsAll(t *testing.T) {
	a, b := startScripted(t, "127.0.0.1:0"), startScripted(t, "127.0.0.1:0")
	dead := deadAddress(t)
	s := newSource("T", "U", "V")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{a.address, dead, b.address}, Source: s.get, Clock: newHandClock()})
	r.Changed() // before the first Register nothing may be sent
	if told := r.Announce(within(t)); told != nil {
		t.Fatalf("announced to %v before registering", told)
	}
	if told := r.Register(within(t)); !slices.Equal(told, []string{a.address, b.address}) {
		t.Fatalf("told were %v", told)
	}
	for _, n := range []*scriptedNameServer{a, b} {
		got := n.next()
		wantNames(t, got, false, "T", "U", "V")
		want := protocol.RegisterBrokerRequestHeader{
			BrokerName: "b-a", BrokerAddr: "10.0.0.1:10911", ClusterName: "C", HAServerAddr: "10.0.0.1:10912",
			HasEnableActingMaster: true, BodyCrc32: got.header.BodyCrc32,
		}
		if got.header != want {
			t.Errorf("the header is %+v", got.header)
		}
		if got.version != (protocol.DataVersion{StateVersion: 3, Timestamp: 100, Counter: 1}) {
			t.Errorf("the version is %+v", got.version)
		}
		topic := protocol.TopicConfig{TopicName: "T", ReadQueueNums: 4, WriteQueueNums: 8, Perm: 6, TopicFilterType: "SINGLE_TAG", Attributes: map[string]string{}}
		if !reflect.DeepEqual(got.topics["T"], topic) {
			t.Errorf("topic T is %+v", got.topics["T"])
		}
		n.none()
	}
}

// deadAddress is an address that nobody listens on.
func deadAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestRegistrarTellsChangesOnly(t *testing.T) {
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T", "U", "V", "W")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: newHandClock()})
	r.Register(within(t))
	n.next()

	s.put(6, "new")
	if told := r.Announce(within(t)); !slices.Equal(told, []string{n.address}) {
		t.Fatalf("told were %v", told)
	}
	got := n.next()
	wantNames(t, got, true, "new")
	if got.version.Counter != 2 {
		t.Errorf("the version is %+v", got.version)
	}
	if told := r.Announce(within(t)); !slices.Equal(told, []string{n.address}) {
		t.Fatalf("with nothing to tell, told were %v", told)
	}
	n.none()

	// What was not announced by itself is told with the next change: a name server that takes the version without the
	// topic would ignore the topic later.
	s.put(4, "U")
	s.put(6, "newer")
	r.Changed()
	got = n.next()
	wantNames(t, got, true, "U", "newer")
	if got.topics["U"].Perm != 4 {
		t.Errorf("topic U is %+v", got.topics["U"])
	}

	for what, change := range map[string]func(*Registration){
		"a topic is gone":  func(r *Registration) { r.Topics = r.Topics[1:] },
		"the last is gone": func(r *Registration) { r.Topics = r.Topics[:len(r.Topics)-1] },
		"another version":  func(r *Registration) {},
		"another term":     func(r *Registration) { r.Version.StateVersion++ },
		"another role":     func(r *Registration) { r.BrokerID = 2 },
		"another address":  func(r *Registration) { r.Address = "10.0.0.9:10911" },
		"read only":        func(r *Registration) { r.Permission = 4 },
		"another cluster":  func(r *Registration) { r.Cluster = "D" },
		"most topics": func(r *Registration) {
			for i := range r.Topics {
				r.Topics[i].ReadQueues++
			}
		},
	} {
		s.change(change)
		r.Announce(within(t))
		var all []string
		for _, topic := range s.get().Topics {
			all = append(all, topic.Name)
		}
		t.Run(what, func(t *testing.T) { wantNames(t, n.next(), false, all...) })
	}
}

func TestRegistrarPermission(t *testing.T) {
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T", "U")
	s.put(7, "U")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: newHandClock()})
	r.Register(within(t))
	if got := n.next(); got.topics["T"].Perm != 6 || got.topics["U"].Perm != 7 {
		t.Errorf("with broker permission 6: %+v", got.topics)
	}
	s.change(func(r *Registration) { r.Permission = 4 })
	r.Announce(within(t))
	if got := n.next(); got.topics["T"].Perm != 4 || got.topics["U"].Perm != 4 {
		t.Errorf("with broker permission 4: %+v", got.topics)
	}
}

// A name server learns whether the group wants an acting master, as soon as that changes.
func TestRegistrarActingMaster(t *testing.T) {
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: newHandClock()})
	r.Register(within(t))
	if got := n.next(); got.header.EnableActingMaster {
		t.Errorf("%+v", got.header)
	}
	s.change(func(r *Registration) { r.ActingMaster = true })
	r.Announce(within(t))
	if got := n.next(); !got.header.EnableActingMaster {
		t.Errorf("%+v", got.header)
	}
}

// One request in flight, the changes meanwhile in one more.
func TestRegistrarGathersChanges(t *testing.T) {
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T", "U", "V", "W", "X", "Y", "Z")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: newHandClock()})
	r.Register(within(t))
	n.next()
	entered, release := make(chan struct{}), make(chan struct{})
	n.answerWith(func(got registered) (protocol.ResponseCode, protocol.Fields, string) {
		if slices.Equal(got.names(), []string{"first"}) {
			close(entered)
			<-release
		}
		return protocol.Success, nil, ""
	})
	s.put(6, "first")
	r.Changed()
	<-entered
	for i := range 3 {
		s.put(6, fmt.Sprint("n", i))
		r.Changed()
	}
	close(release)
	wantNames(t, n.next(), true, "first")
	wantNames(t, n.next(), true, "n0", "n1", "n2")
	if told := r.Announce(within(t)); len(told) != 1 {
		t.Fatal("the name server is not told")
	}
	n.none()
}

func TestRegistrarInterval(t *testing.T) {
	clock := newHandClock()
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T", "U")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: clock, Interval: time.Second})
	r.Register(within(t))
	n.next()
	for range 3 {
		s.put(6, "silent") // nobody says that it is there
		eventually(t, "the next registration is due", func() bool { return slices.Equal(clock.next(), []time.Duration{registerIntervalMin}) })
		clock.advance(registerIntervalMin)
		wantNames(t, n.next(), false, "T", "U", "silent")
	}
}

// A name server that does not know the replica any more refuses a change, and is told everything.
func TestRegistrarIncrementalIsRefused(t *testing.T) {
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T", "U", "V")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: newHandClock()})
	r.Register(within(t))
	n.next()
	n.answerWith(func(got registered) (protocol.ResponseCode, protocol.Fields, string) {
		if got.incremental {
			return protocol.SystemError, nil, ""
		}
		return protocol.Success, nil, ""
	})
	s.put(6, "W")
	if told := r.Announce(within(t)); len(told) != 1 {
		t.Fatal("the name server is not told")
	}
	wantNames(t, n.next(), true, "W")
	wantNames(t, n.next(), false, "T", "U", "V", "W")
}

func TestRegistrarRetries(t *testing.T) {
	clock := newHandClock()
	n := startScripted(t, "127.0.0.1:0")
	n.answerWith(func(registered) (protocol.ResponseCode, protocol.Fields, string) {
		return protocol.SystemError, nil, ""
	})
	s := newSource("T", "U")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: clock})
	if told := r.Register(within(t)); told != nil {
		t.Fatalf("told were %v", told)
	}
	n.next()
	for _, pause := range []time.Duration{1, 2, 4, 8, 8} {
		pause *= time.Second
		eventually(t, "the next attempt is due", func() bool { return slices.Equal(clock.next(), []time.Duration{pause}) })
		// Changes do not hurry it, and are not waited for.
		s.put(6, "V")
		if told := r.Announce(within(t)); told != nil {
			t.Fatalf("told were %v", told)
		}
		n.none()
		clock.advance(pause)
		wantNames(t, n.next(), false, "T", "U", "V")
	}
	n.answerWith(nil)
	if told := r.Register(within(t)); len(told) != 1 { // a change of role does not wait
		t.Fatal("the name server is not told")
	}
	n.next()
	eventually(t, "the usual interval", func() bool { return slices.Equal(clock.next(), []time.Duration{30 * time.Second}) })
}

// A name server that was restarted is told everything as soon as it is back, not at the next interval.
func TestRegistrarNameServerRestarts(t *testing.T) {
	clock := newHandClock()
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T", "U")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: clock})
	r.Register(within(t))
	n.next()
	n.stop()
	eventually(t, "the registrar noticed", func() bool { return slices.Equal(clock.next(), []time.Duration{time.Second}) })
	again := startScripted(t, n.address)
	clock.advance(time.Second)
	wantNames(t, again.next(), false, "T", "U")
}

// One name server that hangs must not keep others from hearing, nor Close from ending.
func TestRegistrarNameServerHangs(t *testing.T) {
	hanging, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T", "U")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{hanging.Addr().String(), n.address}, Source: s.get, Clock: newHandClock()})
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan []string)
	go func() { told <- r.Register(ctx) }()
	n.next()
	s.put(6, "V")
	r.Changed()
	wantNames(t, n.next(), true, "V")
	cancel()
	if got := <-told; !slices.Equal(got, []string{n.address}) {
		t.Errorf("told were %v", got)
	}
}

func TestRegistrarClose(t *testing.T) {
	n := startScripted(t, "127.0.0.1:0")
	s := newSource("T", "U")
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: newHandClock()})
	r.Register(within(t))
	wantNames(t, n.next(), false, "T", "U")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := n.next(); !got.unregister {
		t.Fatalf("instead of unregistering: %+v", got)
	}
	if told := r.Register(context.Background()); told != nil {
		t.Fatalf("after Close told were %v", told)
	}
	r.Changed()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRegistrarOrderConfig(t *testing.T) {
	n := startScripted(t, "127.0.0.1:0")
	n.answerWith(func(registered) (protocol.ResponseCode, protocol.Fields, string) {
		return protocol.Success, nil, `{"table":{"T":"b-a:4"}}`
	})
	s := newSource("T", "U")
	got := make(chan map[string]string, 1)
	r := startRegistrar(t, RegistrarOptions{
		NameServers: []string{n.address}, Source: s.get, Clock: newHandClock(), OrderConfig: func(m map[string]string) { got <- m },
	})
	r.Register(within(t))
	if m := <-got; !maps.Equal(m, map[string]string{"T": "b-a:4"}) {
		t.Fatalf("the order configuration is %v", m)
	}
}

// Many topics take several requests. A name server takes changes only from a version that it does not know, so each part
// but the last has a version of its own; unless nothing changed, then none is to be taken again.
func TestRegistrarSplits(t *testing.T) {
	clock := newHandClock()
	n := startScripted(t, "127.0.0.1:0")
	s := newSource()
	for i := range 2*topicsPerRequest + 1 {
		s.now.Topics = append(s.now.Topics, store.TopicConfig{Name: fmt.Sprintf("t-%08d", i), ReadQueues: 8, WriteQueues: 8, Perm: 6})
	}
	r := startRegistrar(t, RegistrarOptions{NameServers: []string{n.address}, Source: s.get, Clock: clock})
	check := func(counters ...int64) {
		t.Helper()
		got := map[string]bool{}
		for i, counter := range counters {
			part := n.next()
			if want := (protocol.DataVersion{StateVersion: 3, Timestamp: 100, Counter: counter}); part.version != want || !part.incremental {
				t.Errorf("part %d has version %+v, want %+v", i, part.version, want)
			}
			for name := range part.topics {
				got[name] = true
			}
		}
		if len(got) != len(s.get().Topics) {
			t.Errorf("%d topics were told", len(got))
		}
		n.none()
	}
	r.Register(within(t))
	check(-1, -2, 1)
	r.Register(within(t))
	check(1, 1, 1)
	s.change(func(r *Registration) {})
	r.Announce(within(t))
	check(-1, -2, 2)
}

func TestRegistrarOptions(t *testing.T) {
	if _, err := NewRegistrar(RegistrarOptions{Source: newSource().get}); err == nil {
		t.Error("a registrar without a client")
	}
	client := remoting.NewClient(remoting.ClientOptions{})
	defer client.Close()
	if _, err := NewRegistrar(RegistrarOptions{Client: client}); err == nil {
		t.Error("a registrar without a source")
	}
	for given, want := range map[time.Duration]time.Duration{
		0: 30 * time.Second, time.Second: 10 * time.Second, 20 * time.Second: 20 * time.Second, time.Hour: time.Minute,
	} {
		o := RegistrarOptions{Client: client, Source: newSource().get, Interval: given}
		if err := o.setDefaults(); err != nil || o.Interval != want {
			t.Errorf("interval %v became %v, %v", given, o.Interval, err)
		}
	}
}

// Three replicas of a group against rmq's own name server: the leader is followed through a change.
func TestRegistrarsWithNameServer(t *testing.T) {
	ns, err := namesrv.New(namesrv.Options{KVConfigPath: filepath.Join(t.TempDir(), "kvConfig.json")})
	if err != nil {
		t.Fatal(err)
	}
	mux := remoting.NewMux()
	ns.Register(mux)
	server, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	addresses := func() map[int64]string {
		b, _ := ns.Table().Broker("b-a")
		return b.Addresses
	}
	var sources []*source
	var registrars []*Registrar
	for i := range 3 {
		s := newSource("T", "U")
		s.now.BrokerID, s.now.Address = int64(i), fmt.Sprintf("10.0.0.%d:10911", i)
		r := startRegistrar(t, RegistrarOptions{NameServers: []string{server.Addrs()[0].String()}, Source: s.get, Clock: newHandClock()})
		if told := r.Register(within(t)); len(told) != 1 {
			t.Fatalf("told were %v", told)
		}
		sources, registrars = append(sources, s), append(registrars, r)
	}
	if want := map[int64]string{0: "10.0.0.0:10911", 1: "10.0.0.1:10911", 2: "10.0.0.2:10911"}; !maps.Equal(addresses(), want) {
		t.Fatalf("addresses are %v", addresses())
	}
	sources[1].change(func(r *Registration) { r.BrokerID, r.Version.StateVersion = 0, 4 })
	registrars[1].Register(within(t))
	registrars[0].Register(within(t)) // does not know yet that it is deposed
	if got := addresses(); got[0] != "10.0.0.1:10911" {
		t.Fatalf("addresses are %v", got)
	}
	sources[0].change(func(r *Registration) { r.BrokerID, r.Version.StateVersion = 1, 4 })
	registrars[0].Announce(within(t))
	if want := map[int64]string{0: "10.0.0.1:10911", 1: "10.0.0.0:10911", 2: "10.0.0.2:10911"}; !maps.Equal(addresses(), want) {
		t.Fatalf("addresses are %v", addresses())
	}
	if err := registrars[2].Close(); err != nil {
		t.Fatal(err)
	}
	if got := addresses(); len(got) != 2 {
		t.Fatalf("after one left, addresses are %v", got)
	}
}
