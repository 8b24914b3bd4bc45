package namesrv

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rmq/remoting"
	"rmq/remoting/protocol"
)

func founder(number int, incarnation, host string) protocol.FoundGroupBody {
	return protocol.FoundGroupBody{Cluster: "C", Group: "b-a", Number: number, ServerID: string(rune('0'+number)) + "-" + incarnation,
		RaftAddr: host + ":10912", ClientAddr: host + ":10911"}
}

func membersOf(term uint64, servers ...protocol.FoundGroupBody) protocol.GroupMembersBody {
	r := protocol.GroupMembersBody{Cluster: "C", Group: "b-a", Leader: servers[0].ServerID, Term: term, ConfigurationIndex: 1}
	for _, q := range servers {
		r.Members = append(r.Members, protocol.GroupMember{ServerID: q.ServerID, RaftAddr: q.RaftAddr, ClientAddr: q.ClientAddr, Voter: true})
	}
	return r
}

// memory is the memory of groups under test, its file and its clock.
type memory struct {
	*groupMemory
	t     *testing.T
	path  string
	clock *handClock
}

func newMemory(t *testing.T, limit int) *memory {
	m := &memory{t: t, path: filepath.Join(t.TempDir(), "groups.json"), clock: &handClock{time.Unix(1_800_000_000, 0)}}
	m.open(limit)
	t.Cleanup(func() { m.close() })
	return m
}

func (m *memory) open(limit int) {
	m.t.Helper()
	var err error
	if m.groupMemory, err = openGroupMemory(m.path, m.clock.now, limit); err != nil {
		m.t.Fatal(err)
	}
}

// restart reads everything anew.
func (m *memory) restart() {
	m.t.Helper()
	if err := m.close(); err != nil {
		m.t.Fatal(err)
	}
	m.open(10)
}

func (m *memory) wantFound(q protocol.FoundGroupBody, may bool) {
	m.t.Helper()
	if err := m.found(q); (err == nil) != may || err != nil && !errors.Is(err, ErrGroupHeld) {
		m.t.Fatalf("%s at %s may found: %v", q.ServerID, q.RaftAddr, err)
	}
}

func (m *memory) mustReport(r protocol.GroupMembersBody) {
	m.t.Helper()
	if err := m.report(r); err != nil {
		m.t.Fatal(err)
	}
}

// The right to found a group is given to one at a time, over a restart of the name server too.
func TestFoundingIsGrantedToOne(t *testing.T) {
	m := newMemory(t, 10)
	m.wantFound(founder(0, "x", "a"), true)
	m.wantFound(founder(0, "x", "a"), true) // asks again
	m.wantFound(founder(0, "y", "b"), false)
	m.wantFound(founder(1, "y", "a"), false)
	m.restart()
	m.wantFound(founder(0, "y", "b"), false)
	m.wantFound(founder(0, "z", "a"), true) // it was emptied before it founded anything
	m.clock.advance(2*grantFor - time.Millisecond)
	m.wantFound(founder(0, "y", "b"), false)
	m.clock.advance(time.Millisecond)
	m.wantFound(founder(0, "y", "b"), true) // the first one never did
}

// A group that other replicas or an arbiter hold is never founded again.
func TestEmptiedReplicaDoesNotFoundASecondGroup(t *testing.T) {
	m := newMemory(t, 10)
	m.wantFound(founder(0, "x", "a"), true)
	m.mustReport(membersOf(2, founder(0, "x", "a"), founder(1, "y", "b")))
	m.restart()
	m.wantFound(founder(0, "new", "a"), false)
	m.clock.advance(1000 * time.Hour)
	m.wantFound(founder(0, "new", "a"), false)
	withArbiter := membersOf(3, founder(0, "x", "a"))
	withArbiter.Members = append(withArbiter.Members, protocol.GroupMember{ServerID: "arbiter-q", RaftAddr: "n:9877", Arbiter: true})
	m.mustReport(withArbiter)
	m.wantFound(founder(0, "new", "a"), false)
	if err := m.forget("C", "b-a"); err != nil {
		t.Fatal(err)
	}
	m.wantFound(founder(0, "new", "a"), true)
}

// A lone replica that was emptied holds all there was: it may begin again where it was, and elsewhere when it has been gone for long.
func TestLoneReplicaFoundsAnew(t *testing.T) {
	m := newMemory(t, 10)
	m.mustReport(membersOf(7, founder(0, "x", "a")))
	m.wantFound(founder(0, "y", "b"), false)
	m.wantFound(founder(1, "y", "a"), false) // number 0 has the data
	m.clock.advance(membersRecent)
	m.wantFound(founder(0, "y", "b"), true)
	m.mustReport(membersOf(1, founder(0, "y", "b")))
	m.wantFound(founder(0, "z", "b"), true)
	m.mustReport(membersOf(1, founder(0, "z", "b")))
	m.restart()
	m.wantFound(founder(0, "q", "c"), false)
}

// What a deposed leader says of the members does not replace what its successor said.
func TestOldReportsAreRefused(t *testing.T) {
	m := newMemory(t, 10)
	x, y := founder(0, "x", "a"), founder(1, "y", "b")
	m.mustReport(membersOf(7, x, y))
	for _, r := range []protocol.GroupMembersBody{membersOf(6, x), membersOf(1, founder(0, "other", "c"))} {
		if err := m.report(r); !errors.Is(err, errStaleReport) {
			t.Fatalf("%v", err)
		}
	}
	earlier := membersOf(7, x)
	earlier.ConfigurationIndex = 0
	if err := m.report(earlier); !errors.Is(err, errStaleReport) {
		t.Fatalf("%v", err)
	}
	m.clock.advance(membersRecent) // the group was given up and founded anew, while this name server was away
	m.mustReport(membersOf(1, founder(0, "other", "c")))
	if err := m.report(membersOf(0, founder(0, "other", "c"))); !errors.Is(err, errStaleReport) {
		t.Fatalf("%v", err)
	}
}

// A leader reports every 30 s; the file is written when something has changed, and now and then.
func TestRepeatedReportsAreNotWritten(t *testing.T) {
	m := newMemory(t, 10)
	m.mustReport(membersOf(7, founder(0, "x", "a")))
	before, err := os.Stat(m.path)
	if err != nil {
		t.Fatal(err)
	}
	m.clock.advance(membersFresh - time.Second)
	m.mustReport(membersOf(7, founder(0, "x", "a")))
	if after, err := os.Stat(m.path); err != nil || !os.SameFile(before, after) {
		t.Fatalf("written again, %v", err)
	}
	m.clock.advance(time.Second)
	m.mustReport(membersOf(7, founder(0, "x", "a")))
	if after, err := os.Stat(m.path); err != nil || os.SameFile(before, after) {
		t.Fatalf("not written, %v", err)
	}
}

func TestGroupMemoryRefuses(t *testing.T) {
	m := newMemory(t, 1)
	for _, q := range []protocol.FoundGroupBody{{}, {Cluster: "C", Group: "g h", ServerID: "0-x", RaftAddr: "a:1", ClientAddr: "a:2"},
		{Cluster: "C", Group: "g", ServerID: "0-x", RaftAddr: "a:1"}, {Cluster: "C", Group: "g", ServerID: "0-x", RaftAddr: "a:1", ClientAddr: "a:2", Number: -1}} {
		if err := m.found(q); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	none, bad := membersOf(1, founder(0, "x", "a")), membersOf(1, founder(0, "x", "a"))
	none.Members, bad.Members[0].ClientAddr = nil, "a b"
	for _, r := range []protocol.GroupMembersBody{{}, none, bad} {
		if err := m.report(r); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	m.wantFound(founder(0, "x", "a"), true)
	more := founder(0, "x", "a")
	more.Group = "another"
	if err := m.found(more); !errors.Is(err, ErrLimit) {
		t.Errorf("%v", err)
	}
}

// A file that was cut, changed, or is of a later version is an error: going on without it could found a second group.
func TestGroupMemoryRefusesABrokenFile(t *testing.T) {
	m := newMemory(t, 10)
	m.wantFound(founder(0, "x", "a"), true)
	good, err := os.ReadFile(m.path)
	if err != nil {
		t.Fatal(err)
	}
	later := strings.Replace(string(good[:strings.LastIndex(string(good), "crc32c ")]), `"version": 1`, `"version": 2`, 1)
	for what, text := range map[string]string{
		"empty": "", "cut": string(good[:len(good)/2]), "no CRC": string(good[:len(good)-16]),
		"changed": strings.Replace(string(good), "0-x", "0-y", 1), "later version": later + crcLine([]byte(later)), "no JSON": "x" + crcLine([]byte("x")),
	} {
		if err := os.WriteFile(m.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openGroupMemory(m.path, time.Now, 10); err == nil {
			t.Errorf("%s: opened", what)
		}
	}
	if err := os.WriteFile(m.path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	m.restart()
	m.wantFound(founder(0, "y", "b"), false)
}

// A change that cannot be written is not made.
func TestGroupMemoryWriteFails(t *testing.T) {
	m := newMemory(t, 10)
	if err := os.RemoveAll(filepath.Dir(m.path)); err != nil {
		t.Fatal(err)
	}
	if err := m.found(founder(0, "x", "a")); err == nil || errors.Is(err, ErrGroupHeld) {
		t.Fatalf("%v", err)
	}
	if len(m.groups) != 0 {
		t.Errorf("known without being remembered: %v", m.groups)
	}
}

// fakeHost is an arbiter host.
type fakeHost struct {
	mu    sync.Mutex
	has   map[string]bool
	asked []protocol.ArbiterRequest
	err   error
}

type codedError struct{}

func (codedError) Error() string       { return "full" }
func (codedError) ResponseCode() int32 { return protocol.ArbiterLimit }

func (h *fakeHost) Offer(_ context.Context, q protocol.ArbiterRequest) (protocol.ArbiterOffer, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = append(h.asked, q)
	return protocol.ArbiterOffer{ServerID: "arbiter-x", Address: "n:9877"}, h.err
}

func (h *fakeHost) Has(cluster, group string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.has[cluster+" "+group]
}

func (h *fakeHost) Forget(cluster, group string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.has, cluster+" "+group)
	return nil
}

func (h *fakeHost) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

// asker asks the name servers at addresses.
func (n *running) asker(addresses ...string) *Asker {
	return &Asker{Client: n.client, Servers: func() []string { return addresses }}
}

func TestFoundGroupOverTheWire(t *testing.T) {
	host := &fakeHost{has: map[string]bool{}}
	dir := t.TempDir()
	n := start(t, Options{Arbiters: host, KVConfigPath: filepath.Join(dir, "kvConfig.json")})
	ctx := t.Context()
	a := n.asker(n.address)
	x := founder(0, "x", "10.0.0.1")
	if until, err := a.FoundGroup(ctx, x); err != nil || time.Until(until) > grantFor || time.Until(until) < grantFor/2 {
		t.Fatalf("%v %v", until, err)
	}
	if taken, err := a.ReportMembers(ctx, membersOf(2, x)); taken != 1 || err != nil {
		t.Fatalf("%d %v", taken, err)
	}
	if _, err := a.ReportMembers(ctx, membersOf(1, x)); err == nil {
		t.Error("an old report was taken")
	}
	// Who is alive keeps its group, whatever is remembered; it itself may have come back without its data.
	y := founder(0, "y", "10.0.0.1")
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, strings.ReplaceAll(leaderFields, ".1:", ".9:"), ofTerm(2, "T", "U")))
	if _, err := a.FoundGroup(ctx, y); !errors.Is(err, ErrGroupHeld) || !strings.Contains(err.Error(), "10.0.0.9:10911") {
		t.Fatalf("%v", err)
	}
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, ofTerm(2, "T", "U")))
	if _, err := a.FoundGroup(ctx, y); err != nil {
		t.Fatal(err)
	}
	host.has["C b-a"] = true
	if _, err := a.FoundGroup(ctx, y); !errors.Is(err, ErrGroupHeld) {
		t.Fatalf("%v", err)
	}
	n.want(protocol.InvalidParameter, n.ask(protocol.FoundGroup, "", "{"))
	n.want(protocol.InvalidParameter, n.ask(protocol.GroupMembers, "", ""))
	n.want(protocol.InvalidParameter, n.ask(protocol.ForgetGroup, "", `{"cluster":"","group":""}`))
	n.want(protocol.Success, n.ask(protocol.ForgetGroup, "", `{"cluster":"C","group":"b-a"}`))
	if _, err := a.FoundGroup(ctx, y); err != nil {
		t.Fatal(err)
	}
	n.stop()
	if text, err := os.ReadFile(filepath.Join(dir, "groups.json")); err != nil || !strings.Contains(string(text), "0-y") {
		t.Errorf("%v: %s", err, text)
	}
}

// Name servers that do not know the request, or are down, have no objection; one that does is enough.
func TestFoundGroupAsksAll(t *testing.T) {
	first, second := start(t, Options{}), start(t, Options{})
	stock, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: remoting.NewMux()})
	if err != nil {
		t.Fatal(err)
	}
	defer stock.Close(context.Background())
	apache, down := stock.Addrs()[0].String(), "127.0.0.1:1"
	ctx := t.Context()
	if until, err := first.asker(apache, down).FoundGroup(ctx, founder(0, "x", "a")); !until.IsZero() || err != nil {
		t.Fatalf("%v %v", until, err)
	}
	if _, err := first.asker(down).FoundGroup(ctx, founder(0, "x", "a")); !errors.Is(err, errNobodyKnows) {
		t.Errorf("with all name servers down: %v", err)
	}
	if taken, err := first.asker(apache).ReportMembers(ctx, membersOf(2, founder(0, "x", "a"))); taken != 0 || err != nil {
		t.Fatalf("%d %v", taken, err)
	}
	if taken, err := first.asker(apache, down, second.address).ReportMembers(ctx, membersOf(2, founder(0, "x", "a"), founder(1, "y", "b"))); taken != 1 || err == nil {
		t.Fatalf("%d %v", taken, err)
	}
	if _, err := first.asker(down, first.address, second.address).FoundGroup(ctx, founder(0, "z", "a")); !errors.Is(err, ErrGroupHeld) {
		t.Fatalf("%v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := first.asker(first.address).FoundGroup(ended, founder(0, "z", "a")); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
}

func TestOfferArbiterOverTheWire(t *testing.T) {
	off := start(t, Options{})
	host := &fakeHost{}
	n := start(t, Options{Arbiters: host})
	ctx := t.Context()
	q := protocol.ArbiterRequest{Cluster: "C", Group: "b-a", DataAddrs: []string{"a:1", "b:1"}}
	offer, err := n.asker(off.address, n.address).OfferArbiter(ctx, q)
	if err != nil || offer.ServerID != "arbiter-x" || len(host.asked) != 1 || !host.asked[0].OtherHost || !slices.Equal(host.asked[0].DataAddrs, q.DataAddrs) {
		t.Fatalf("%+v %v, asked %+v", offer, err, host.asked)
	}
	for _, c := range []struct{ refusal, want error }{{codedError{}, ErrArbiterLimit}, {errors.New("disk"), ErrNoArbiter}} {
		host.fail(c.refusal)
		if _, err := n.asker(n.address).OfferArbiter(ctx, q); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.refusal.Error()) {
			t.Errorf("%v: %v", c.refusal, err)
		}
	}
	if _, err := n.asker(off.address).OfferArbiter(ctx, q); !errors.Is(err, ErrArbiterOff) {
		t.Errorf("%v", err)
	}
	n.want(protocol.InvalidParameter, n.ask(protocol.OfferArbiter, "", `{"cluster":"C","group":"a b"}`))
}

// A name server beside a data replica is taken only when no other has an arbiter.
func TestArbiterOnAnotherMachineIsPreferred(t *testing.T) {
	beside, apart := start(t, Options{Arbiters: hostBeside{"beside"}}), start(t, Options{Arbiters: &fakeHost{}})
	ctx := t.Context()
	q := protocol.ArbiterRequest{Cluster: "C", Group: "b-a"}
	if offer, err := apart.asker(beside.address, apart.address).OfferArbiter(ctx, q); err != nil || offer.ServerID != "arbiter-x" {
		t.Errorf("%+v %v", offer, err)
	}
	if offer, err := apart.asker(beside.address).OfferArbiter(ctx, q); err != nil || offer.ServerID != "beside" || !offer.SharesHost {
		t.Errorf("%+v %v", offer, err)
	}
}

type hostBeside struct{ id string }

type sharesError struct{}

func (sharesError) Error() string       { return "the same machine" }
func (sharesError) ResponseCode() int32 { return protocol.ArbiterSharesHost }

func (h hostBeside) Offer(_ context.Context, q protocol.ArbiterRequest) (protocol.ArbiterOffer, error) {
	if q.OtherHost {
		return protocol.ArbiterOffer{}, sharesError{}
	}
	return protocol.ArbiterOffer{ServerID: h.id, Address: "n:1", SharesHost: true}, nil
}
func (hostBeside) Has(string, string) bool     { return false }
func (hostBeside) Forget(string, string) error { return nil }

// passBroker answers admin requests as a group's leader does.
func passBroker(t *testing.T, answer func(r *remoting.Request) *protocol.Command) string {
	t.Helper()
	mux := remoting.NewMux()
	class := &remoting.Class{Name: "all", Limit: 10, Mode: remoting.Spawn}
	for _, code := range []protocol.RequestCode{protocol.ControllerElectMaster, protocol.ControllerGetSyncStateData, protocol.CleanBrokerData} {
		mux.Handle(code, class, func(r *remoting.Request) { r.Reply(answer(r)) })
	}
	server, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(context.Background()) })
	return server.Addrs()[0].String()
}

// Admin tools take the name server for the controller; the groups' leaders answer.
func TestControllerRequestsGoToTheLeader(t *testing.T) {
	client := remoting.NewClient(remoting.ClientOptions{})
	defer client.Close()
	n := start(t, Options{Client: client})
	address := passBroker(t, func(r *remoting.Request) *protocol.Command {
		if r.Cmd.Code == protocol.ControllerElectMaster {
			answer := protocol.NewResponse(r.Cmd, protocol.Success, "")
			id, _ := r.Cmd.Ext.Get("brokerId")
			answer.Ext.Set("masterBrokerId", id)
			answer.Body = []byte("members")
			return answer
		}
		if r.Cmd.Code == protocol.CleanBrokerData {
			ids, _ := r.Cmd.Ext.Get("brokerControllerIdsToClean")
			return protocol.NewResponse(r.Cmd, protocol.InvalidParameter, "no replica "+ids)
		}
		var names []string
		if err := json.Unmarshal(r.Cmd.Body, &names); err != nil || len(names) != 1 {
			return protocol.NewResponse(r.Cmd, protocol.SystemError, "not one name")
		}
		answer := protocol.NewResponse(r.Cmd, protocol.Success, "")
		answer.Body = []byte(`{"replicasInfoTable":{"` + names[0] + `":{"masterBrokerId":1}}}`)
		return answer
	})
	for _, name := range []string{"b-a", "b-b"} {
		n.want(protocol.Success, n.ask(protocol.RegisterBroker, "brokerName="+name+" brokerAddr="+address+" clusterName=C haServerAddr=a:1 brokerId=0", ofTerm(2, "T", "U")))
	}
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, strings.ReplaceAll(followerFields, "b-a", "b-c"), ofTerm(2, "T", "U")))

	metadata := n.want(protocol.Success, n.ask(protocol.ControllerGetMetadataInfo, "", ""))
	if leader, _ := metadata.Ext.Get("controllerLeaderAddress"); leader != n.address {
		t.Errorf("the tool would go to %s", leader)
	}
	elected := n.want(protocol.Success, n.ask(protocol.ControllerElectMaster, "clusterName=C brokerName=b-a brokerId=2", ""))
	if id, _ := elected.Ext.Get("masterBrokerId"); id != "2" || string(elected.Body) != "members" {
		t.Errorf("%s %s", id, elected.Body)
	}
	n.wantBody(n.ask(protocol.ControllerGetSyncStateData, "", `["b-a","b-b","b-c","none"]`),
		`{"replicasInfoTable":{"b-a":{"masterBrokerId":1},"b-b":{"masterBrokerId":1}}}`)
	cleaned := n.want(protocol.InvalidParameter, n.ask(protocol.CleanBrokerData, "clusterName=C brokerName=b-a brokerControllerIdsToClean=2", ""))
	if cleaned.Remark != "no replica 2" {
		t.Errorf("the leader's refusal arrives as %q", cleaned.Remark)
	}
	for _, name := range []string{"b-c", "none"} {
		for _, answer := range []*protocol.Command{
			n.ask(protocol.ControllerElectMaster, "brokerName="+name, ""), n.ask(protocol.ControllerGetSyncStateData, "", `["`+name+`"]`),
		} {
			if answer.Code != protocol.SystemError || !strings.Contains(answer.Remark, name) {
				t.Errorf("%s: %d %s", name, answer.Code, answer.Remark)
			}
		}
	}
	alone := start(t, Options{})
	alone.want(protocol.SystemError, alone.ask(protocol.ControllerElectMaster, "brokerName=b-a", ""))
	alone.want(protocol.SystemError, alone.ask(protocol.ControllerGetSyncStateData, "", `{`))
	alone.want(protocol.InvalidParameter, alone.ask(protocol.ControllerGetSyncStateData, "", "["+strings.Repeat(`"x",`, groupsWithLeaderMax)+`"x"]`))
}
