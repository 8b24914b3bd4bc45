package namesrv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// handClock is moved by the test alone.
type handClock struct{ t time.Time }

func (c *handClock) now() time.Time          { return c.t }
func (c *handClock) advance(d time.Duration) { c.t = c.t.Add(d) }

func newTable(limits Limits) (*RouteTable, *handClock) {
	clock := &handClock{time.Unix(1_800_000_000, 0)}
	return NewRouteTable(clock.now, limits), clock
}

func topicsNamed(perm int32, names ...string) []Topic {
	var out []Topic
	for _, name := range names {
		out = append(out, Topic{Name: name, ReadQueues: 4, WriteQueues: 4, Perm: perm})
	}
	return out
}

// leader is a full registration of broker b-a at address a0; tests change what they are about.
func leader(edit ...func(*Registration)) Registration {
	r := Registration{
		Cluster: "C", BrokerName: "b-a", ID: LeaderID, Address: "a0:1", HAAddress: "a0:2",
		Version: Version{Counter: 1, Timestamp: 100}, Topics: topicsNamed(6, "T", "U"), Owner: 1,
	}
	for _, f := range edit {
		f(&r)
	}
	return r
}

func at(id int64, address string) func(*Registration) {
	return func(r *Registration) { r.ID, r.Address, r.HAAddress = id, address, address+"9" }
}
func term(n int64) func(*Registration)       { return func(r *Registration) { r.Version.StateVersion = n } }
func counter(n int64) func(*Registration)    { return func(r *Registration) { r.Version.Counter = n } }
func owner(n uint64) func(*Registration)     { return func(r *Registration) { r.Owner = n } }
func broker(name string) func(*Registration) { return func(r *Registration) { r.BrokerName = name } }
func serving(topics ...Topic) func(*Registration) {
	return func(r *Registration) { r.Topics = topics }
}

func mustRegister(t *testing.T, table *RouteTable, r Registration) Registered {
	t.Helper()
	out, err := table.Register(r)
	if err != nil {
		t.Fatalf("register %s under %d: %v", r.Address, r.ID, err)
	}
	return out
}

func addresses(t *testing.T, table *RouteTable, brokerName string) map[int64]string {
	t.Helper()
	b, _ := table.Broker(brokerName)
	return b.Addresses
}

func wantAddresses(t *testing.T, table *RouteTable, want map[int64]string) {
	t.Helper()
	if got := addresses(t, table, "b-a"); !reflect.DeepEqual(got, want) {
		t.Fatalf("addresses of b-a are %v, want %v", got, want)
	}
}

func permOf(t *testing.T, table *RouteTable, topic string) int32 {
	t.Helper()
	route, ok := table.Route(topic, -1)
	if !ok {
		t.Fatalf("no route to %s", topic)
	}
	return route.Queues[0].Perm
}

func TestRegisterThenRoute(t *testing.T) {
	table, _ := newTable(Limits{})
	if out := mustRegister(t, table, leader()); !out.NewReplica || out.LeaderAddress != "" {
		t.Fatalf("first registration: %+v", out)
	}
	follower := mustRegister(t, table, leader(at(1, "a1:1"), serving()))
	if follower.LeaderAddress != "a0:1" || follower.LeaderHAAddress != "a0:2" {
		t.Fatalf("the follower was told of leader %+v", follower)
	}
	mustRegister(t, table, leader(broker("b-0"), at(0, "z0:1"), serving(
		Topic{Name: "T", ReadQueues: 1, WriteQueues: 2, Perm: 4, SysFlag: 3}, Topic{Name: "V"})))

	route, ok := table.Route("T", -1)
	if !ok {
		t.Fatal("no route to T")
	}
	want := TopicRoute{
		Brokers: []BrokerData{
			{Cluster: "C", Name: "b-0", Addresses: map[int64]string{0: "z0:1"}},
			{Cluster: "C", Name: "b-a", Addresses: map[int64]string{0: "a0:1", 1: "a1:1"}},
		},
		Queues: []QueueData{
			{BrokerName: "b-0", ReadQueues: 1, WriteQueues: 2, Perm: 4, SysFlag: 3},
			{BrokerName: "b-a", ReadQueues: 4, WriteQueues: 4, Perm: 6},
		},
	}
	if !reflect.DeepEqual(route, want) {
		t.Fatalf("route to T is %+v, want %+v", route, want)
	}
	if _, ok := table.Route("no such topic", -1); ok {
		t.Fatal("a route to a topic that nobody serves")
	}
}

func TestReturnedDataIsACopy(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader())
	route, _ := table.Route("T", -1)
	route.Brokers[0].Addresses[0] = "changed"
	table.Brokers()[0].Addresses[0] = "changed"
	wantAddresses(t, table, map[int64]string{0: "a0:1"})
}

func TestSingleTopicOfUnknownReplica(t *testing.T) {
	table, _ := newTable(Limits{})
	if _, err := table.Register(leader(serving(topicsNamed(6, "T")...))); !errors.Is(err, ErrUnknownReplica) {
		t.Fatalf("an incremental registration of an unknown broker: %v", err)
	}
	mustRegister(t, table, leader())
	mustRegister(t, table, leader(counter(2), serving(topicsNamed(4, "V")...)))
	if got := table.Topics(); !slices.Equal(got, []string{"T", "U", "V"}) {
		t.Fatalf("topics are %v", got)
	}
	if _, err := table.Register(leader(at(1, "a1:1"), serving(topicsNamed(6, "T")...))); !errors.Is(err, ErrUnknownReplica) {
		t.Fatalf("an incremental registration of an unknown replica: %v", err)
	}
}

// Topics count only when something changed: an unchanged version must not undo what an admin did to the table.
func TestTopicsAreTakenWhenVersionDiffers(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader())
	mustRegister(t, table, leader(serving(append(topicsNamed(2, "T", "U"), topicsNamed(4, "V")...)...)))
	if permOf(t, table, "T") != 6 {
		t.Error("a topic changed under an unchanged version")
	}
	if permOf(t, table, "V") != 4 {
		t.Error("a topic new to the table was not taken under an unchanged version")
	}
	for i, v := range []Version{{0, 100, 2}, {0, 101, 2}, {1, 101, 2}} {
		r := leader(serving(topicsNamed(int32(i), "T", "U")...))
		r.Version = v
		mustRegister(t, table, r)
		if permOf(t, table, "T") != int32(i) {
			t.Errorf("version %+v changed nothing", v)
		}
	}
}

func TestCompleteRegistrationDropsTopics(t *testing.T) {
	table, _ := newTable(Limits{TopicsOfBroker: 3})
	mustRegister(t, table, leader())
	mustRegister(t, table, leader(broker("b-b"), at(0, "b:1")))
	all := leader(counter(2), serving(topicsNamed(6, "U", "V", "W")...))
	all.Complete = true
	mustRegister(t, table, all)
	if got := table.Topics(); !slices.Equal(got, []string{"T", "U", "V", "W"}) {
		t.Fatalf("topics are %v", got)
	}
	if route, _ := table.Route("T", -1); len(route.Queues) != 1 || route.Queues[0].BrokerName != "b-b" {
		t.Fatalf("route to T is %+v", route)
	}
}

func TestFollowersDoNotSpeak(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader())
	mustRegister(t, table, leader(at(1, "a1:1"), counter(9), serving(topicsNamed(0, "T", "X")...)))
	prime := leader(at(2, "a2:1"), counter(9), serving(topicsNamed(0, "T", "X")...))
	prime.SmallestIDSpeaks = true
	mustRegister(t, table, prime)
	if got := table.Topics(); !slices.Equal(got, []string{"T", "U"}) || permOf(t, table, "T") != 6 {
		t.Fatalf("a follower changed the topics: %v", got)
	}
}

// A name server that restarts while a group is leaderless must still know the group's topics.
func TestSmallestIDSpeaksWithoutLeader(t *testing.T) {
	table, _ := newTable(Limits{})
	silent := leader(at(1, "a1:1"))
	mustRegister(t, table, silent)
	if _, ok := table.Route("T", -1); ok {
		t.Fatal("the topics of a follower that may not speak were taken")
	}
	silent.SmallestIDSpeaks = true
	silent.Version.Counter++
	mustRegister(t, table, silent)
	route, ok := table.Route("T", -1)
	if !ok || !slices.Equal(route.Leaderless, []string{"b-a"}) {
		t.Fatalf("route to T is %+v", route)
	}
}

func TestSameAddressUnderAnotherID(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(term(1)))
	mustRegister(t, table, leader(term(1), at(1, "a1:1"), serving()))

	mustRegister(t, table, leader(term(2), at(0, "a1:1")))
	wantAddresses(t, table, map[int64]string{0: "a1:1"})
	if out := mustRegister(t, table, leader(term(1))); !out.Ignored || out.LeaderAddress != "a1:1" {
		t.Fatalf("the deposed leader got %+v", out)
	}
	wantAddresses(t, table, map[int64]string{0: "a1:1"})
	mustRegister(t, table, leader(term(2), at(1, "a0:1"), serving()))
	wantAddresses(t, table, map[int64]string{0: "a1:1", 1: "a0:1"})
}

// The new leader's last report as a follower may be overtaken by its first one as leader.
func TestReportOvertakenByLeadership(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(term(1)))
	mustRegister(t, table, leader(term(2), at(0, "a1:1")))
	if out := mustRegister(t, table, leader(term(1), at(1, "a1:1"), serving())); !out.Ignored || out.LeaderAddress != "" {
		t.Fatalf("a late report of an older term got %+v", out)
	}
	wantAddresses(t, table, map[int64]string{0: "a1:1"})
}

// The leader of the newest term has just crashed: an older one that wakes up must not take its place.
func TestFenceOutlivesTheLeadersEntry(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(term(5), at(0, "a1:1"), owner(5)))
	mustRegister(t, table, leader(term(5), at(2, "a2:1"), serving(), owner(6)))
	table.Disconnect(5)
	if out := mustRegister(t, table, leader(term(4))); !out.Ignored {
		t.Fatal("a deposed leader was accepted")
	}
	wantAddresses(t, table, map[int64]string{2: "a2:1"})
	mustRegister(t, table, leader(term(6)))
	wantAddresses(t, table, map[int64]string{0: "a0:1", 2: "a2:1"})
}

// A process that restarts at the leader's address with an empty disk starts over with small terms.
func TestFenceSparesTheLeadersOwnAddress(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(term(9)))
	mustRegister(t, table, leader(term(9), at(1, "a1:1"), serving()))
	if out := mustRegister(t, table, leader(term(2))); out.Ignored {
		t.Fatal("the leader's own address was fenced")
	}
}

func TestFenceEndsWithTheGroup(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(term(9)))
	table.Unregister("b-a", "a0:1")
	if out := mustRegister(t, table, leader(term(1), at(0, "a1:1"))); out.Ignored {
		t.Fatal("a group made anew was fenced by the one that is gone")
	}
}

func TestEqualTermsLastOneWins(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader())
	mustRegister(t, table, leader(at(0, "a7:1"), serving(topicsNamed(4, "T", "U")...)))
	wantAddresses(t, table, map[int64]string{0: "a7:1"})
	if permOf(t, table, "T") != 4 {
		t.Fatal("the topics of the address that took over were not taken")
	}
}

func TestUnregister(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader())
	mustRegister(t, table, leader(at(1, "a1:1"), serving()))
	if table.Unregister("b-x", "a0:1") || table.Unregister("b-a", "x:1") {
		t.Fatal("something unknown was unregistered")
	}
	if !table.Unregister("b-a", "a0:1") {
		t.Fatal("the leader was not in the table")
	}
	route, ok := table.Route("T", -1)
	if !ok || !slices.Equal(route.Leaderless, []string{"b-a"}) {
		t.Fatalf("without its leader the route is %+v, %v", route, ok)
	}
	table.Unregister("b-a", "a1:1")
	if _, ok := table.Route("T", -1); ok || len(table.Brokers()) != 0 || len(table.Topics()) != 0 {
		t.Fatal("the group outlived its last replica")
	}
	if s := table.Stats(); s.Queues != 0 || s.Topics != 0 || s.Replicas != 0 || s.Unregistered != 2 {
		t.Fatalf("stats are %+v", s)
	}
}

func TestDisconnect(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(owner(1)))
	mustRegister(t, table, leader(broker("b-b"), at(0, "b:1"), owner(1)))
	mustRegister(t, table, leader(broker("b-c"), at(0, "c:1"), owner(2)))
	mustRegister(t, table, leader(broker("b-c"), at(0, "c:1"), owner(3))) // reconnected
	if got := table.Disconnect(2); got != nil {
		t.Fatalf("a connection that was replaced took out %v", got)
	}
	want := []Removal{{"C", "b-a", 0, "a0:1"}, {"C", "b-b", 0, "b:1"}}
	if got := table.Disconnect(1); !reflect.DeepEqual(got, want) {
		t.Fatalf("the connection took out %v, want %v", got, want)
	}
	if got := table.Brokers(); len(got) != 1 || got[0].Name != "b-c" {
		t.Fatalf("left are %v", got)
	}
}

func TestExpire(t *testing.T) {
	table, clock := newTable(Limits{})
	brief := leader(broker("b-b"), at(0, "b:1"))
	brief.Expiry = 10 * time.Second
	mustRegister(t, table, brief)
	mustRegister(t, table, leader())
	silent := leader(at(1, "a1:1"), serving())
	silent.Expiry = -time.Second
	mustRegister(t, table, silent)

	clock.advance(10 * time.Second)
	if got := table.Expire(); got != nil {
		t.Fatalf("expired at the limit: %v", got)
	}
	clock.advance(time.Second)
	if got := table.Expire(); len(got) != 1 || got[0].BrokerName != "b-b" {
		t.Fatalf("after 11 s expired %v", got)
	}
	clock.advance(109 * time.Second)
	if !table.Touch("b-a", "a0:1") || table.Touch("b-a", "x") || table.Touch("b-b", "b:1") {
		t.Fatal("Touch knows the wrong replicas")
	}
	clock.advance(time.Second)
	if got := table.Expire(); len(got) != 1 || got[0].ID != 1 {
		t.Fatalf("after 121 s expired %v", got)
	}
	wantAddresses(t, table, map[int64]string{0: "a0:1"})
	endless := leader(broker("b-e"), at(0, "e:1"))
	endless.Expiry = 1 << 62
	mustRegister(t, table, endless)
	clock.advance(25 * time.Hour)
	table.Expire()
	if _, ok := table.Broker("b-e"); ok {
		t.Fatal("a replica may ask to be believed for ever")
	}
}

func TestVersionOf(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(term(3)))
	if v, ok := table.VersionOf("b-a", "a0:1"); !ok || v != (Version{3, 100, 1}) {
		t.Fatalf("version is %+v, %v", v, ok)
	}
	if _, ok := table.VersionOf("b-a", "a1:1"); ok {
		t.Fatal("an address that is not in the table has a version")
	}
	if _, ok := table.VersionOf("b-x", "a0:1"); ok {
		t.Fatal("a broker that is not in the table has a version")
	}
}

func TestActingMaster(t *testing.T) {
	const delay = 10 * time.Second
	table, clock := newTable(Limits{})
	acting := func(r *Registration) { r.ActingMaster, r.SmallestIDSpeaks = true, true }
	mustRegister(t, table, leader(acting))
	mustRegister(t, table, leader(acting, at(2, "a2:1")))
	mustRegister(t, table, leader(acting, at(3, "a3:1")))
	shown := func(actingAfter time.Duration) string {
		route, _ := table.Route("T", actingAfter)
		return fmt.Sprint(route.Brokers[0].Addresses, route.Queues[0].Perm)
	}
	check := func(what, want string, actingAfter time.Duration) {
		t.Helper()
		if got := shown(actingAfter); got != want {
			t.Fatalf("%s: %s, want %s", what, got, want)
		}
	}
	check("with a leader", "map[0:a0:1 2:a2:1 3:a3:1] 6", 0)
	table.Unregister("b-a", "a0:1")
	check("just lost the leader", "map[2:a2:1 3:a3:1] 4", delay)
	clock.advance(delay)
	check("lost it a while ago", "map[0:a2:1 3:a3:1] 4", delay)
	check("not supported", "map[2:a2:1 3:a3:1] 4", -1)
	if b, _ := table.Broker("b-a"); b.Addresses[0] != "" {
		t.Fatal("a member group shows an acting master")
	}
	mustRegister(t, table, leader(acting))
	check("has a leader again", "map[0:a0:1 2:a2:1 3:a3:1] 6", delay)
}

func TestActingMasterIsNotShownToTheGroupItself(t *testing.T) {
	table, _ := newTable(Limits{})
	topic := memberTopicPrefix + "b-a"
	r := leader(at(1, "a1:1"), serving(topicsNamed(6, topic, "T")...))
	r.ActingMaster, r.SmallestIDSpeaks = true, true
	mustRegister(t, table, r)
	if route, _ := table.Route(topic, 0); route.Brokers[0].Addresses[0] != "" {
		t.Fatal("the group's own topic shows an acting master")
	}
	if route, _ := table.Route("T", 0); route.Brokers[0].Addresses[0] != "a1:1" {
		t.Fatal("another topic shows none")
	}
}

func TestWipeAndAddWritePerm(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(serving(append(topicsNamed(6, "T"), topicsNamed(7, "U")...)...)))
	mustRegister(t, table, leader(broker("b-b"), at(0, "b:1")))
	perms := func() string {
		var out []string
		for _, topic := range table.Topics() {
			route, _ := table.Route(topic, -1)
			for _, q := range route.Queues {
				out = append(out, fmt.Sprint(q.BrokerName, topic, q.Perm))
			}
		}
		return strings.Join(out, " ")
	}
	check := func(what, want string) {
		t.Helper()
		if got := perms(); got != want {
			t.Fatalf("%s: %s, want %s", what, got, want)
		}
	}
	if n := table.WipeWritePerm("b-a"); n != 2 {
		t.Fatalf("wiped %d topics", n)
	}
	if n := table.WipeWritePerm("b-x"); n != 0 {
		t.Fatalf("wiped %d topics of an unknown broker", n)
	}
	check("wiped", "b-aT4 b-bT6 b-aU5 b-bU6")
	mustRegister(t, table, leader())
	check("registered without change", "b-aT4 b-bT6 b-aU5 b-bU6")
	mustRegister(t, table, leader(counter(2)))
	check("registered with a change", "b-aT6 b-bT6 b-aU6 b-bU6")
	table.WipeWritePerm("b-a")
	mustRegister(t, table, leader(counter(3), serving(topicsNamed(4, "T", "U")...)))
	if n := table.AddWritePerm("b-a"); n != 2 {
		t.Fatalf("added to %d topics", n)
	}
	if n := table.AddWritePerm("b-x"); n != 0 {
		t.Fatalf("added to %d topics of an unknown broker", n)
	}
	check("added", "b-aT6 b-bT6 b-aU6 b-bU6")
}

func TestWipeOutlivesAChangeOfLeader(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(term(1)))
	table.WipeWritePerm("b-a")
	mustRegister(t, table, leader(term(2), at(0, "a1:1")))
	if permOf(t, table, "T") != 4 {
		t.Fatal("another leader with the same topics undid the wipe")
	}
	mustRegister(t, table, leader(term(3), counter(2), at(0, "a1:1")))
	if permOf(t, table, "T") != 6 {
		t.Fatal("changed topics did not undo the wipe")
	}
	if len(table.Wipes()) != 0 {
		t.Fatal("the wipe is still remembered")
	}
}

// Scripts from before addWritePerm rely on it: withdraw, drain, restart the broker.
func TestWipeEndsWithTheBroker(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader())
	mustRegister(t, table, leader(at(1, "a1:1"), serving()))
	table.WipeWritePerm("b-a")
	table.Unregister("b-a", "a0:1")
	mustRegister(t, table, leader())
	if permOf(t, table, "T") != 6 || len(table.Wipes()) != 0 {
		t.Fatal("a restarted Apache master is still without write permission")
	}
}

// A name server that stops closes its connections, so all groups leave its table before it asks what to remember.
func TestWipeOfAGroupThatLeft(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(owner(1)))
	table.WipeWritePerm("b-a")
	table.Disconnect(1)
	if len(table.Wipes()) != 1 {
		t.Fatal("the wipe was forgotten with the connection")
	}
	mustRegister(t, table, leader(term(1)))
	if permOf(t, table, "T") != 6 || len(table.Wipes()) != 0 {
		t.Fatal("a group that was gone and came back is still without write permission")
	}
}

func TestWipeOutlivesTheNameServer(t *testing.T) {
	old, _ := newTable(Limits{})
	mustRegister(t, old, leader(term(1)))
	mustRegister(t, old, leader(broker("b-b"), at(0, "b:1")))
	old.WipeWritePerm("b-a")
	old.WipeWritePerm("b-b")

	for _, c := range []struct {
		name    string
		reports []Registration
		perm    int32
		left    int // wipes remembered
	}{
		{"unchanged", []Registration{leader(term(1))}, 4, 2},
		{"another leader meanwhile", []Registration{leader(term(4), at(0, "a1:1"))}, 4, 2},
		{"changed topics meanwhile", []Registration{leader(term(1), counter(2))}, 6, 1},
		{"older", []Registration{leader(term(0))}, 6, 1},
		{"a follower first", []Registration{leader(term(1), at(1, "a1:1"), func(r *Registration) { r.SmallestIDSpeaks = true }), leader(term(1))}, 4, 2},
		{"then changed", []Registration{leader(term(1)), leader(term(1), counter(2))}, 6, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			table, _ := newTable(Limits{})
			table.RestoreWipes(old.Wipes())
			for _, r := range c.reports {
				mustRegister(t, table, r)
			}
			if got := permOf(t, table, "T"); got != c.perm {
				t.Errorf("permission is %d, want %d", got, c.perm)
			}
			if got := table.Wipes(); len(got) != c.left {
				t.Errorf("%d wipes are remembered, want %d", len(got), c.left)
			}
			for _, r := range c.reports {
				table.Unregister("b-a", r.Address)
			}
			mustRegister(t, table, c.reports[len(c.reports)-1])
			if got := permOf(t, table, "T"); got != 6 {
				t.Errorf("permission is %d after the broker was restarted", got)
			}
			table.AddWritePerm("b-a")
			table.AddWritePerm("b-b") // not registered since the restart
			if got := table.Wipes(); len(got) != 0 || permOf(t, table, "T") != 6 {
				t.Errorf("after addWritePerm: %v", got)
			}
		})
	}
}

func TestDeleteTopic(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader())
	mustRegister(t, table, leader(broker("b-b"), at(0, "b:1"), func(r *Registration) { r.Cluster = "D" }))
	table.DeleteTopic("T", "D")
	if route, _ := table.Route("T", -1); len(route.Brokers) != 1 || route.Brokers[0].Name != "b-a" {
		t.Fatalf("route to T is %+v", route)
	}
	table.DeleteTopic("U", "")
	table.DeleteTopic("no such topic", "")
	table.DeleteTopic("T", "no such cluster")
	if got := table.Topics(); !slices.Equal(got, []string{"T"}) {
		t.Fatalf("topics are %v", got)
	}
	mustRegister(t, table, leader(counter(2)))
	if got := table.Topics(); !slices.Equal(got, []string{"T", "U"}) {
		t.Fatalf("after a changed registration topics are %v", got)
	}
}

func TestRegisterTopic(t *testing.T) {
	table, _ := newTable(Limits{TopicsOfBroker: 3})
	mustRegister(t, table, leader())
	queue := QueueData{BrokerName: "b-a", ReadQueues: 1, WriteQueues: 2, Perm: 6, SysFlag: 1}
	if err := table.RegisterTopic("V", []QueueData{queue, {BrokerName: "b-x"}}); !errors.Is(err, ErrUnknownBroker) {
		t.Fatalf("a topic of an unknown broker: %v", err)
	}
	if len(table.Topics()) != 2 {
		t.Fatal("a refused topic was taken")
	}
	if err := table.RegisterTopic("V", []QueueData{queue}); err != nil {
		t.Fatal(err)
	}
	if route, _ := table.Route("V", -1); !reflect.DeepEqual(route.Queues, []QueueData{queue}) {
		t.Fatalf("route to V is %+v", route)
	}
	if err := table.RegisterTopic("W", []QueueData{queue}); !errors.Is(err, ErrLimit) {
		t.Fatalf("a topic too many: %v", err)
	}
	if err := table.RegisterTopic("bad name", []QueueData{queue}); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a bad name: %v", err)
	}
}

func TestTopicLists(t *testing.T) {
	table, _ := newTable(Limits{})
	mustRegister(t, table, leader(serving(Topic{Name: "plain"}, Topic{Name: "unit", SysFlag: 1}, Topic{Name: "sub", SysFlag: 2}, Topic{Name: "both", SysFlag: 3})))
	mustRegister(t, table, leader(broker("b-b"), at(2, "b:1"), serving(Topic{Name: "other"}, Topic{Name: "plain"}), func(r *Registration) {
		r.Cluster, r.SmallestIDSpeaks = "D", true
	}))
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) || got == nil {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("all", table.Topics(), "both", "other", "plain", "sub", "unit")
	check("of cluster C", table.TopicsOfCluster("C"), "both", "plain", "sub", "unit")
	check("of cluster D", table.TopicsOfCluster("D"), "other", "plain")
	check("of no cluster", table.TopicsOfCluster("X"))
	check("unit", table.UnitTopics(), "both", "unit")
	check("unit sub", table.UnitSubTopics(), "both", "sub")
	check("unit sub, not unit", table.UnitSubUnunitTopics(), "sub")
	names, address := table.SystemTopics()
	check("system", names, "C", "D", "b-a", "b-b")
	if address != "a0:1" {
		t.Errorf("system topics are to be asked at %q", address)
	}
	empty, _ := newTable(Limits{})
	check("all of nothing", empty.Topics())
	names, address = empty.SystemTopics()
	check("system of nothing", names)
	if address != "" {
		t.Errorf("an empty table names address %q", address)
	}
}

func TestInZone(t *testing.T) {
	table, _ := newTable(Limits{})
	in := func(zone string) func(*Registration) { return func(r *Registration) { r.Zone = zone } }
	speaks := func(r *Registration) { r.SmallestIDSpeaks = true }
	mustRegister(t, table, leader(in("East")))
	mustRegister(t, table, leader(in("west"), broker("b-b"), at(0, "b:1")))
	mustRegister(t, table, leader(in("west"), broker("b-c"), at(1, "c:1"), speaks))
	mustRegister(t, table, leader(broker("b-d"), at(0, "d:1")))
	route, _ := table.Route("T", -1)
	route.InZone("eAST")
	var names []string
	for i, b := range route.Brokers {
		names = append(names, b.Name)
		if route.Queues[i].BrokerName != b.Name {
			t.Errorf("queues of %s stand beside broker %s", route.Queues[i].BrokerName, b.Name)
		}
	}
	if !slices.Equal(names, []string{"b-a", "b-c"}) {
		t.Fatalf("in zone east are %v", names)
	}
}

func TestBadRegistrations(t *testing.T) {
	for name, edit := range map[string]func(*Registration){
		"no cluster":        func(r *Registration) { r.Cluster = "" },
		"no broker":         func(r *Registration) { r.BrokerName = "" },
		"long broker":       func(r *Registration) { r.BrokerName = strings.Repeat("x", 256) },
		"control character": func(r *Registration) { r.BrokerName = "a\nb" },
		"blank":             func(r *Registration) { r.Cluster = "a b" },
		"not UTF-8":         func(r *Registration) { r.Cluster = "a\xff" },
		"quote":             func(r *Registration) { r.Zone = `a"b` },
		"no address":        func(r *Registration) { r.Address = "" },
		"comma in address":  func(r *Registration) { r.Address = "a:1,1:b:2" },
		"quote in address":  func(r *Registration) { r.Address = `a:1"` },
		"blank in address":  func(r *Registration) { r.Address = "a: 1" },
		"bad HA address":    func(r *Registration) { r.HAAddress = "a\x00" },
		"negative id":       func(r *Registration) { r.ID = -1 },
	} {
		table, _ := newTable(Limits{})
		if _, err := table.Register(leader(edit)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if s := table.Stats(); s.Brokers != 0 || s.Refused != 1 {
			t.Errorf("%s: stats are %+v", name, s)
		}
	}
}

// One badly named topic must not make a broker invisible.
func TestBadTopicNamesAreSkipped(t *testing.T) {
	table, _ := newTable(Limits{})
	out := mustRegister(t, table, leader(serving(topicsNamed(6, "T", "", "a b", "host.example.com", "%RETRY%g", strings.Repeat("x", 256))...)))
	if out.SkippedTopics != 3 {
		t.Errorf("%d topics were skipped", out.SkippedTopics)
	}
	if got := table.Topics(); !slices.Equal(got, []string{"%RETRY%g", "T", "host.example.com"}) {
		t.Errorf("topics are %q", got)
	}
}

func TestLimits(t *testing.T) {
	table, _ := newTable(Limits{Brokers: 2, ReplicasOfBroker: 2, TopicsOfBroker: 3, Queues: 5})
	refuse := func(what string, r Registration) {
		t.Helper()
		before := table.Stats()
		if _, err := table.Register(r); !errors.Is(err, ErrLimit) {
			t.Fatalf("%s: %v", what, err)
		}
		before.Refused++
		if after := table.Stats(); after != before {
			t.Fatalf("%s: the table changed from %+v to %+v", what, before, after)
		}
	}
	refuse("four topics at once", leader(serving(topicsNamed(6, "a", "b", "c", "d")...)))
	mustRegister(t, table, leader(serving(topicsNamed(6, "a", "b", "c")...)))
	refuse("a fourth topic", leader(counter(2), serving(topicsNamed(6, "d")...)))
	mustRegister(t, table, leader(at(1, "a1:1"), serving()))
	refuse("a third replica", leader(at(2, "a2:1"), serving()))
	mustRegister(t, table, leader(at(1, "a2:1"), serving())) // in place of the second one
	refuse("a sixth queue", leader(broker("b-b"), at(0, "b:1"), serving(topicsNamed(6, "a", "b", "c")...)))
	mustRegister(t, table, leader(broker("b-b"), at(0, "b:1"), serving(topicsNamed(6, "a", "b")...)))
	refuse("a third broker", leader(broker("b-c"), at(0, "c:1"), serving()))
	if err := table.RegisterTopic("d", []QueueData{{BrokerName: "b-b"}}); !errors.Is(err, ErrLimit) {
		t.Fatalf("a sixth queue by topic: %v", err)
	}
}

// TestRandomOperations holds the table's two views (by group, by topic) against each other through a long random history.
func TestRandomOperations(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		table, clock := newTable(Limits{Brokers: 4, ReplicasOfBroker: 3, TopicsOfBroker: 6, Queues: 15})
		pick := func(prefix string, n int) string { return fmt.Sprint(prefix, rng.IntN(n)) }
		for range 2000 {
			switch rng.IntN(12) {
			case 0:
				table.Unregister(pick("b", 5), pick("a", 5)+":1")
			case 1:
				table.Disconnect(rng.Uint64N(6))
			case 2:
				clock.advance(time.Duration(rng.IntN(30)) * time.Second)
				table.Expire()
			case 3:
				table.DeleteTopic(pick("t", 9), []string{"", "C0", "C1"}[rng.IntN(3)])
			case 4:
				_ = table.RegisterTopic(pick("t", 9), []QueueData{{BrokerName: pick("b", 5), Perm: 6}, {BrokerName: pick("b", 5), Perm: 4}})
			case 5:
				table.WipeWritePerm(pick("b", 5))
			case 6:
				table.AddWritePerm(pick("b", 5))
			default:
				r := leader(broker(pick("b", 5)), at(rng.Int64N(4), pick("a", 5)+":1"), term(rng.Int64N(3)), counter(rng.Int64N(3)), owner(rng.Uint64N(6)))
				r.Cluster, r.Complete, r.SmallestIDSpeaks = pick("C", 2), rng.IntN(4) == 0, rng.IntN(2) == 0
				r.Topics = nil
				for range rng.IntN(8) {
					r.Topics = append(r.Topics, Topic{Name: pick("t", 9), Perm: 6})
				}
				_, _ = table.Register(r)
			}
			if err := table.consistent(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
}

// consistent checks what must hold between the table's parts after every operation.
func (t *RouteTable) consistent() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	queues := 0
	for name, g := range t.groups {
		queues += len(g.topics)
		if g.name != name || len(g.replicas) == 0 || len(g.replicas) > t.limits.ReplicasOfBroker || len(g.topics) > t.limits.TopicsOfBroker {
			return fmt.Errorf("group %s: %d replicas, %d topics", g.name, len(g.replicas), len(g.topics))
		}
		if (g.replicas[LeaderID] == nil) == g.leaderlessAt.IsZero() {
			return fmt.Errorf("group %s: leaderless since %v with replicas %v", name, g.leaderlessAt, g.data().Addresses)
		}
		seen := map[string]bool{}
		for _, r := range g.replicas {
			if seen[r.address] {
				return fmt.Errorf("group %s lists %s twice", name, r.address)
			}
			seen[r.address] = true
		}
		for topic := range g.topics {
			if !slices.Contains(t.topics[topic], g) {
				return fmt.Errorf("topic %s lacks group %s", topic, name)
			}
		}
	}
	for topic, serving := range t.topics {
		if len(serving) == 0 || !slices.IsSortedFunc(serving, func(a, b *group) int { return strings.Compare(a.name, b.name) }) {
			return fmt.Errorf("topic %s is served by %d groups, or they are unsorted", topic, len(serving))
		}
		for _, g := range serving {
			if !g.serves(topic) || t.groups[g.name] != g {
				return fmt.Errorf("topic %s lists group %s", topic, g.name)
			}
		}
	}
	if queues != t.queues || queues > t.limits.Queues || len(t.groups) > t.limits.Brokers {
		return fmt.Errorf("%d queues are counted as %d", queues, t.queues)
	}
	return nil
}
