package namesrv

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net"
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

// testClock is moved by the test; its timers fire as it passes them.
type testClock struct {
	mu     sync.Mutex
	t      time.Time
	timers map[*testTimer]bool
	armed  chan struct{} // receives, without blocking the clock, whenever a timer is set
}

type testTimer struct {
	at time.Time
	f  func()
}

func newTestClock() *testClock {
	return &testClock{t: time.Unix(1_800_000_000, 0), timers: map[*testTimer]bool{}, armed: make(chan struct{}, 1)}
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *testClock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	timer := &testTimer{c.t.Add(d), f}
	c.timers[timer] = true
	select {
	case c.armed <- struct{}{}:
	default:
	}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := c.timers[timer]
		delete(c.timers, timer)
		return was
	}
}

// advance moves the clock by d once some timer is set, and waits until another is: so one round of a loop that sets a timer
// each time is over.
func (c *testClock) advance(t *testing.T, d time.Duration) {
	t.Helper()
	receive(t, c.armed, "a timer")
	c.mu.Lock()
	c.t = c.t.Add(d)
	for timer := range c.timers {
		if !timer.at.After(c.t) {
			delete(c.timers, timer)
			go timer.f()
		}
	}
	c.mu.Unlock()
	receive(t, c.armed, "the next timer")
	c.armed <- struct{}{}
}

func receive[T any](t *testing.T, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

// eventually waits for a condition that other goroutines bring about.
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

// running is a name server behind a real socket, and a client of it.
type running struct {
	*NameServer
	t       *testing.T
	address string
	client  *remoting.Client
	stop    func()
}

func start(t *testing.T, opts Options) *running {
	t.Helper()
	if opts.KVConfigPath == "" {
		opts.KVConfigPath = filepath.Join(t.TempDir(), "kvConfig.json")
	}
	ns, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	mux := remoting.NewMux()
	ns.Register(mux)
	server, err := remoting.Listen(remoting.ServerOptions{Addrs: []string{"127.0.0.1:0"}, Mux: mux})
	if err != nil {
		t.Fatal(err)
	}
	n := &running{NameServer: ns, t: t, address: server.Addrs()[0].String(), client: remoting.NewClient(remoting.ClientOptions{})}
	n.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, err := range []error{n.client.Close(), server.Close(ctx), ns.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(n.stop)
	return n
}

// ask sends a request as a current Java client does.
func (n *running) ask(code protocol.RequestCode, fields string, body string) *protocol.Command {
	n.t.Helper()
	return n.send(request(code, fields, body))
}

func (n *running) send(cmd *protocol.Command) *protocol.Command {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := n.client.Call(ctx, n.address, cmd)
	if err != nil {
		n.t.Fatalf("request %d: %v", cmd.Code, err)
	}
	return answer
}

// request builds a request from ext fields written as "key=value key=value".
func request(code protocol.RequestCode, fields, body string) *protocol.Command {
	cmd := protocol.NewRequest(code, nil)
	for _, field := range strings.Fields(fields) {
		key, value, _ := strings.Cut(field, "=")
		cmd.Ext.Set(key, value)
	}
	cmd.Body = []byte(body)
	return cmd
}

// want checks the answer's code and returns the answer.
func (n *running) want(code protocol.ResponseCode, answer *protocol.Command) *protocol.Command {
	n.t.Helper()
	if answer.Code != code {
		n.t.Fatalf("answer has code %d (%s), want %d", answer.Code, answer.Remark, code)
	}
	return answer
}

// wantBody checks for success with this body.
func (n *running) wantBody(answer *protocol.Command, body string) {
	n.t.Helper()
	if got := string(n.want(protocol.Success, answer).Body); got != body {
		n.t.Fatalf("the body is\n%s\nwant\n%s", got, body)
	}
}

// registration is the body of REGISTER_BROKER with the given topics, all of permission perm.
func registration(counter, perm int, topics ...string) string {
	var configs []string
	for _, topic := range topics {
		configs = append(configs, fmt.Sprintf(`%q:{"order":false,"perm":%d,"readQueueNums":4,"topicFilterType":"SINGLE_TAG","topicName":%q,"topicSysFlag":0,"writeQueueNums":8}`, topic, perm, topic))
	}
	return fmt.Sprintf(`{"filterServerList":[],"topicConfigSerializeWrapper":{"dataVersion":{"counter":%d,"timestamp":100},"topicConfigTable":{%s}}}`,
		counter, strings.Join(configs, ","))
}

const (
	leaderFields   = "brokerName=b-a brokerAddr=10.0.0.1:10911 clusterName=C haServerAddr=10.0.0.1:10912 brokerId=0 "
	followerFields = "brokerName=b-a brokerAddr=10.0.0.2:10911 clusterName=C haServerAddr=10.0.0.2:10912 brokerId=1 "
)

const routeToT = `{"brokerDatas":[{"brokerAddrs":{%s},"brokerName":"b-a","cluster":"C","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"b-a","perm":%d,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":8}]}`

func TestRegisterAndRouteOverTheWire(t *testing.T) {
	n := start(t, Options{})
	n.want(protocol.TopicNotExist, n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""))
	body := registration(1, 6, "T", "U")
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, fmt.Sprint(leaderFields, "bodyCrc32=", crc32.ChecksumIEEE([]byte(body))&0x7fffffff), body))
	answer := n.want(protocol.Success, n.ask(protocol.RegisterBroker, followerFields, registration(1, 6, "T", "U")))
	if master, _ := answer.Ext.Get("masterAddr"); master != "10.0.0.1:10911" {
		t.Errorf("the follower was told of master %q", master)
	}
	if ha, _ := answer.Ext.Get("haServerAddr"); ha != "10.0.0.1:10912" {
		t.Errorf("the follower was told of HA address %q", ha)
	}

	// The spelling of keys depends on who asks; both have to be compact, the Go client cuts addresses out of the text.
	quoted := fmt.Sprintf(routeToT, `"0":"10.0.0.1:10911","1":"10.0.0.2:10911"`, 6)
	legacy := fmt.Sprintf(routeToT, `0:"10.0.0.1:10911",1:"10.0.0.2:10911"`, 6)
	for _, c := range []struct {
		version int32
		fields  string
		want    string
	}{
		{protocol.V4_9_4, "topic=T", quoted},
		{protocol.MQVersion, "topic=T", quoted},
		{protocol.V4_9_4 - 1, "topic=T", legacy},
		{317, "topic=T", legacy}, // client-go
		{317, "topic=T acceptStandardJsonOnly=true", quoted},
		{protocol.MQVersion, "topic=T acceptStandardJsonOnly=false", quoted},
	} {
		cmd := request(protocol.GetRouteinfoByTopic, c.fields, "")
		cmd.Version = c.version
		n.wantBody(n.send(cmd), c.want)
		cmd.Codec = protocol.CodecBinary
		n.wantBody(n.send(cmd), c.want)
	}
}

func TestRegistrationsAreRefused(t *testing.T) {
	n := start(t, Options{Limits: Limits{TopicsOfBroker: 2}})
	good := registration(1, 6, "T", "U")
	for what, c := range map[string]struct {
		code         protocol.ResponseCode
		fields, body string
	}{
		"wrong checksum":   {protocol.SystemError, leaderFields + "bodyCrc32=7", good},
		"no broker name":   {protocol.SystemError, "brokerAddr=a:1 clusterName=C haServerAddr=a:2 brokerId=0", good},
		"bad id":           {protocol.SystemError, strings.Replace(leaderFields, "brokerId=0", "brokerId=x", 1), good},
		"bad address":      {protocol.InvalidParameter, strings.Replace(leaderFields, "10.0.0.1:10911", `a"b`, 1), good},
		"no JSON":          {protocol.SystemError, leaderFields, "{"},
		"wrong type":       {protocol.SystemError, leaderFields, `{"topicConfigSerializeWrapper":5}`},
		"not compressed":   {protocol.SystemError, leaderFields + "compressed=true", good},
		"too many topics":  {protocol.SystemError, leaderFields, registration(1, 6, "T", "U", "V")},
		"incremental only": {protocol.SystemError, leaderFields, registration(1, 6, "T")},
	} {
		if answer := n.ask(protocol.RegisterBroker, c.fields, c.body); answer.Code != c.code || answer.Remark == "" {
			t.Errorf("%s: code %d, remark %q", what, answer.Code, answer.Remark)
		}
	}
	if s := n.Table().Stats(); s.Brokers != 0 {
		t.Errorf("refused registrations left %+v", s)
	}
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, ""))
}

// Compressed registrations are understood, also those of Apache's 5.x brokers, which do not say that they are.
func TestCompressedRegistrations(t *testing.T) {
	body := &protocol.RegisterBrokerBody{}
	body.TopicConfigSerializeWrapper.DataVersion = protocol.DataVersion{Counter: 1, Timestamp: 100}
	body.TopicConfigSerializeWrapper.TopicConfigTable = map[string]protocol.TopicConfig{
		"T": {TopicName: "T", ReadQueueNums: 4, WriteQueueNums: 8, Perm: 6}, "U": {TopicName: "U"},
	}
	text, err := body.EncodeCompressed()
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{"compressed=true", "compressed=false", ""} {
		n := start(t, Options{})
		n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields+said, string(text)))
		n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, `"0":"10.0.0.1:10911"`, 6))
	}
}

// One connection may carry several brokers; its end takes them all out at once, and leaves those that reconnected.
func TestConnectionCloseTakesReplicasOut(t *testing.T) {
	n := start(t, Options{})
	ctx := context.Background()
	first, err := n.client.Dial(ctx, n.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []*protocol.Command{
		request(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")),
		request(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")),
		request(protocol.RegisterBroker, strings.ReplaceAll(leaderFields, "b-a", "b-b"), registration(1, 6, "T", "U")),
		request(protocol.RegisterBroker, followerFields, registration(1, 6, "T", "U")),
	} {
		if answer, err := first.Call(ctx, cmd); err != nil || answer.Code != protocol.Success {
			t.Fatalf("register: %v, %+v", err, answer)
		}
	}
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, followerFields, registration(1, 6, "T", "U")))
	first.Close()
	eventually(t, "the closed connection's replicas go", func() bool { return n.Table().Stats().Disconnected == 2 })
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, `"1":"10.0.0.2:10911"`, 6))
}

func TestUnregisterOverTheWire(t *testing.T) {
	n := start(t, Options{})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.want(protocol.Success, n.ask(protocol.UnregisterBroker, leaderFields, ""))
	n.want(protocol.TopicNotExist, n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""))
	n.want(protocol.Success, n.ask(protocol.UnregisterBroker, leaderFields, ""))
}

func TestSilentReplicasExpire(t *testing.T) {
	clock := newTestClock()
	n := start(t, Options{Clock: clock})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, strings.ReplaceAll(leaderFields, "b-a", "b-b")+"heartbeatTimeoutMillis=10000", registration(1, 6, "T", "U")))
	alive := func() string {
		var names []string
		for _, b := range n.Table().Brokers() {
			names = append(names, b.Name)
		}
		return strings.Join(names, " ")
	}
	clock.advance(t, 9*time.Second)
	n.want(protocol.Success, n.ask(protocol.BrokerHeartbeat, strings.ReplaceAll(leaderFields, "b-a", "b-b"), ""))
	clock.advance(t, 9*time.Second)
	if got := alive(); got != "b-a b-b" {
		t.Fatalf("after a heartbeat alive are %s", got)
	}
	clock.advance(t, 5*time.Second)
	if got := alive(); got != "b-a" {
		t.Fatalf("after 14 s without one alive are %s", got)
	}
	for range 20 {
		clock.advance(t, 5*time.Second)
	}
	if got := alive(); got != "" {
		t.Fatalf("after 123 s alive are %s", got)
	}
	n.want(protocol.Success, n.ask(protocol.BrokerHeartbeat, leaderFields, ""))
}

func TestQueryDataVersion(t *testing.T) {
	clock := newTestClock()
	n := start(t, Options{Clock: clock})
	changed := func(body string) (changed, known string) {
		answer := n.want(protocol.Success, n.ask(protocol.QueryDataVersion, leaderFields, body))
		changed, _ = answer.Ext.Get("changed")
		return changed, string(answer.Body)
	}
	if c, known := changed(`{"counter":1,"timestamp":100}`); c != "true" || known != "" {
		t.Fatalf("an unknown broker: changed %s, known %s", c, known)
	}
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields+"heartbeatTimeoutMillis=10000", registration(1, 6, "T", "U")))
	const known = `{"counter":1,"stateVersion":0,"timestamp":100}`
	for body, want := range map[string]string{
		`{"counter":1,"timestamp":100}`:                  "false",
		`{"counter":2,"timestamp":100}`:                  "true",
		`{"counter":1,"timestamp":101}`:                  "true",
		`{"counter":1,"timestamp":100,"stateVersion":1}`: "true",
		"": "true",
	} {
		if c, k := changed(body); c != want || k != known {
			t.Errorf("%s: changed %s, known %s", body, c, k)
		}
	}
	clock.advance(t, 9*time.Second)
	changed("")
	clock.advance(t, 9*time.Second)
	if n.Table().Stats().Brokers != 1 {
		t.Error("asking is no sign of life")
	}
}

func TestSingleTopicRegistration(t *testing.T) {
	n := start(t, Options{})
	const body = `{"queueDatas":[{"brokerName":"b-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":8}]}`
	n.want(protocol.SystemError, n.ask(protocol.RegisterTopicInNamesrv, "topic=T", body))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6)))
	n.want(protocol.Success, n.ask(protocol.RegisterTopicInNamesrv, "topic=T", body))
	n.want(protocol.Success, n.ask(protocol.RegisterTopicInNamesrv, "topic=V", ""))
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, `"0":"10.0.0.1:10911"`, 6))
	n.want(protocol.TopicNotExist, n.ask(protocol.GetRouteinfoByTopic, "topic=V", ""))
}

func TestClusterInfoAndMemberGroup(t *testing.T) {
	n := start(t, Options{})
	n.wantBody(n.ask(protocol.GetBrokerClusterInfo, "", ""), `{"brokerAddrTable":{},"clusterAddrTable":{}}`)
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, strings.NewReplacer("b-a", "b-b", "0.1:", "0.3:").Replace(leaderFields), registration(1, 6, "T", "U")))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, followerFields, registration(1, 6, "T", "U")))
	n.wantBody(n.ask(protocol.GetBrokerClusterInfo, "", ""), `{"brokerAddrTable":{`+
		`"b-a":{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"brokerName":"b-a","cluster":"C","enableActingMaster":false},`+
		`"b-b":{"brokerAddrs":{0:"10.0.0.3:10911"},"brokerName":"b-b","cluster":"C","enableActingMaster":false}},`+
		`"clusterAddrTable":{"C":["b-a","b-b"]}}`)
	n.wantBody(n.ask(protocol.GetBrokerMemberGroup, "clusterName=C brokerName=b-a", ""),
		`{"brokerMemberGroup":{"brokerAddrs":{0:"10.0.0.1:10911",1:"10.0.0.2:10911"},"brokerName":"b-a","cluster":"C"}}`)
	n.wantBody(n.ask(protocol.GetBrokerMemberGroup, "clusterName=C brokerName=b-x", ""),
		`{"brokerMemberGroup":{"brokerAddrs":{},"brokerName":"b-x","cluster":"C"}}`)
}

func TestActingMasterOverTheWire(t *testing.T) {
	clock := newTestClock()
	settings := DefaultSettings()
	settings.ActingMaster = true
	n := start(t, Options{Clock: clock, Settings: &settings})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, followerFields+"enableActingMaster=true", registration(1, 6, "T", "U")))
	wanted := func(addresses string) string {
		return strings.Replace(fmt.Sprintf(routeToT, addresses, 4), `"enableActingMaster":false`, `"enableActingMaster":true`, 1)
	}
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), wanted(`"1":"10.0.0.2:10911"`))
	clock.advance(t, 10*time.Second)
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), wanted(`"0":"10.0.0.2:10911"`))
	n.want(protocol.Success, n.ask(protocol.UpdateNamesrvConfig, "", "supportActingMaster=false"))
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), wanted(`"1":"10.0.0.2:10911"`))
}

func TestTopicListsOverTheWire(t *testing.T) {
	n := start(t, Options{})
	n.wantBody(n.ask(protocol.GetAllTopicListFromNameserver, "", ""), `{"topicList":[]}`)
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, strings.Replace(registration(1, 6, "T", "U"), `"topicSysFlag":0`, `"topicSysFlag":3`, 1)))
	lists := []struct {
		code   protocol.RequestCode
		fields string
		want   string
	}{
		{protocol.GetTopicsByCluster, "cluster=C", `{"topicList":["T","U"]}`},
		{protocol.GetTopicsByCluster, "cluster=X", `{"topicList":[]}`},
		{protocol.GetUnitTopicList, "", `{"topicList":["T"]}`},
		{protocol.GetHasUnitSubTopicList, "", `{"topicList":["T"]}`},
		{protocol.GetHasUnitSubUnunitTopicList, "", `{"topicList":[]}`},
	}
	for _, c := range lists {
		n.wantBody(n.ask(c.code, c.fields, ""), c.want)
	}
	n.wantBody(n.ask(protocol.GetSystemTopicListFromNs, "", ""), `{"brokerAddr":"10.0.0.1:10911","topicList":["C","b-a"]}`)
	n.wantBody(n.ask(protocol.GetAllTopicListFromNameserver, "", ""), `{"topicList":["T","U"]}`)
	n.want(protocol.SystemError, n.ask(protocol.GetTopicsByCluster, "", ""))

	n.want(protocol.Success, n.ask(protocol.UpdateNamesrvConfig, "", "enableTopicList=false\nenableAllTopicList=false"))
	for _, c := range lists {
		n.want(protocol.SystemError, n.ask(c.code, c.fields, ""))
	}
	n.want(protocol.SystemError, n.ask(protocol.GetAllTopicListFromNameserver, "", ""))
}

func TestDeleteTopicOverTheWire(t *testing.T) {
	n := start(t, Options{})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.want(protocol.Success, n.ask(protocol.DeleteTopicInNamesrv, "topic=T clusterName=X", ""))
	n.want(protocol.Success, n.ask(protocol.DeleteTopicInNamesrv, "topic=U clusterName=C", ""))
	n.wantBody(n.ask(protocol.GetAllTopicListFromNameserver, "", ""), `{"topicList":["T"]}`)
	n.want(protocol.Success, n.ask(protocol.DeleteTopicInNamesrv, "topic=T", ""))
	n.wantBody(n.ask(protocol.GetAllTopicListFromNameserver, "", ""), `{"topicList":[]}`)
}

// C4: withdrawn write permission holds over a restart of the name server, until it is given back.
func TestWritePermOverTheWire(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kvConfig.json")
	n := start(t, Options{KVConfigPath: path})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	answer := n.want(protocol.Success, n.ask(protocol.WipeWritePermOfBroker, "brokerName=b-a", ""))
	if count, _ := answer.Ext.Get("wipeTopicCount"); count != "2" {
		t.Errorf("wiped %s topics", count)
	}
	wiped, restored := fmt.Sprintf(routeToT, `"0":"10.0.0.1:10911"`, 4), fmt.Sprintf(routeToT, `"0":"10.0.0.1:10911"`, 6)
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), wiped)
	n.stop()

	n = start(t, Options{KVConfigPath: path})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), wiped)
	answer = n.want(protocol.Success, n.ask(protocol.AddWritePermOfBroker, "brokerName=b-a", ""))
	if count, _ := answer.Ext.Get("addTopicCount"); count != "2" {
		t.Errorf("added to %s topics", count)
	}
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), restored)
	n.stop()

	n = start(t, Options{KVConfigPath: path})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), restored)
}

// A wipe that a changed registration undid must not come back with the next restart.
func TestUndoneWipeIsForgotten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kvConfig.json")
	n := start(t, Options{KVConfigPath: path})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.want(protocol.Success, n.ask(protocol.WipeWritePermOfBroker, "brokerName=b-a", ""))
	n.want(protocol.Success, n.ask(protocol.UnregisterBroker, leaderFields, ""))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.stop()
	n = start(t, Options{KVConfigPath: path})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), fmt.Sprintf(routeToT, `"0":"10.0.0.1:10911"`, 6))
}

func TestBadRememberedWipesAreIgnored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kvConfig.json")
	text := fmt.Sprintf(`{"configTable":{%q:{"b-a":"1:2","b-b":"x:2:3","b-c":"0:100:1"}}}`, wipeNamespace)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	n := start(t, Options{KVConfigPath: path})
	if got := n.Table().Wipes(); len(got) != 1 || got["b-c"] != (Version{0, 100, 1}) {
		t.Errorf("remembered are %v", got)
	}
}

func TestKVOverTheWire(t *testing.T) {
	n := start(t, Options{})
	n.want(protocol.QueryNotFound, n.ask(protocol.GetKvConfig, "namespace=ORDER_TOPIC_CONFIG key=T", ""))
	n.want(protocol.QueryNotFound, n.ask(protocol.GetKvlistByNamespace, "namespace=ORDER_TOPIC_CONFIG", ""))
	n.want(protocol.Success, n.ask(protocol.PutKvConfig, "namespace=ORDER_TOPIC_CONFIG key=T value=b-a:4;b-b:4", ""))
	answer := n.want(protocol.Success, n.ask(protocol.GetKvConfig, "namespace=ORDER_TOPIC_CONFIG key=T", ""))
	if v, _ := answer.Ext.Get("value"); v != "b-a:4;b-b:4" {
		t.Errorf("the value is %q", v)
	}
	n.wantBody(n.ask(protocol.GetKvlistByNamespace, "namespace=ORDER_TOPIC_CONFIG", ""), `{"table":{"T":"b-a:4;b-b:4"}}`)

	// The order configuration goes to registering brokers, and with routes if that is switched on.
	n.wantBody(n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")), `{"table":{"T":"b-a:4;b-b:4"}}`)
	plain := fmt.Sprintf(routeToT, `"0":"10.0.0.1:10911"`, 6)
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), plain)
	n.want(protocol.Success, n.ask(protocol.UpdateNamesrvConfig, "", "orderMessageEnable=true\nreturnOrderTopicConfigToBroker=false\n"))
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), strings.Replace(plain, `"queueDatas"`, `"orderTopicConf":"b-a:4;b-b:4","queueDatas"`, 1))
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=U", ""), plain)
	n.wantBody(n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")), "")

	n.want(protocol.Success, n.ask(protocol.DeleteKvConfig, "namespace=ORDER_TOPIC_CONFIG key=T", ""))
	n.want(protocol.QueryNotFound, n.ask(protocol.GetKvConfig, "namespace=ORDER_TOPIC_CONFIG key=T", ""))
	n.wantBody(n.ask(protocol.GetKvlistByNamespace, "namespace=ORDER_TOPIC_CONFIG", ""), `{"table":{}}`)
	n.wantBody(n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""), plain)
	n.want(protocol.InvalidParameter, n.ask(protocol.PutKvConfig, "namespace=n key= value=v", ""))
	n.want(protocol.SystemError, n.ask(protocol.PutKvConfig, "namespace=n value=v", ""))
}

func TestConfigOverTheWire(t *testing.T) {
	n := start(t, Options{FixedKeys: map[string]string{"listenPort": "9876"}})
	text := string(n.want(protocol.Success, n.ask(protocol.GetNamesrvConfig, "", "")).Body)
	if !strings.Contains(text, "listenPort=9876\n") || !strings.Contains(text, "orderMessageEnable=false\n") {
		t.Errorf("the configuration is\n%s", text)
	}
	n.want(protocol.NoPermission, n.ask(protocol.UpdateNamesrvConfig, "", "listenPort=1"))
	n.want(protocol.InvalidParameter, n.ask(protocol.UpdateNamesrvConfig, "", "configStorePath=/etc/cron.d/x"))
	n.want(protocol.InvalidParameter, n.ask(protocol.UpdateNamesrvConfig, "", "orderMessageEnable=maybe"))
	n.want(protocol.Success, n.ask(protocol.UpdateNamesrvConfig, "", "orderMessageEnable=true"))
	n.want(protocol.Success, n.ask(protocol.UpdateNamesrvConfig, "", ""))
	if text := string(n.ask(protocol.GetNamesrvConfig, "", "").Body); !strings.Contains(text, "orderMessageEnable=true\n") {
		t.Errorf("after the change the configuration is\n%s", text)
	}
}

func TestCompleteRegistrationsOverTheWire(t *testing.T) {
	settings := DefaultSettings()
	settings.CompleteTopics = true
	n := start(t, Options{Settings: &settings})
	topics := func() string {
		return strings.Join(n.Table().Topics(), " ")
	}
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U", "V")))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(2, 6, "W")))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields+IncrementalField+"=true", registration(3, 6, "X", "Y")))
	if got := topics(); got != "T U V W X Y" {
		t.Fatalf("after incremental registrations topics are %s", got)
	}
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(4, 6, "T", "U")))
	if got := topics(); got != "T U" {
		t.Fatalf("after a full one topics are %s", got)
	}
}

func TestZones(t *testing.T) {
	n := start(t, Options{})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields+"__ZONE_NAME=east", registration(1, 6, "T", "U")))
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, strings.ReplaceAll(leaderFields, "b-a", "b-b")+"__ZONE_NAME=west", registration(1, 6, "T", "U")))
	brokers := func(fields string) string {
		var route struct {
			BrokerDatas []struct{ BrokerName, ZoneName string }
		}
		if err := json.Unmarshal(n.ask(protocol.GetRouteinfoByTopic, "topic=T "+fields, "").Body, &route); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(route.BrokerDatas)
	}
	for fields, want := range map[string]string{
		"":                                    "[{b-a east} {b-b west}]",
		"__ZONE_NAME=west":                    "[{b-a east} {b-b west}]",
		"__ZONE_MODE=true":                    "[{b-a east} {b-b west}]",
		"__ZONE_NAME=west __ZONE_MODE=true":   "[{b-b west}]",
		"__ZONE_NAME=north __ZONE_MODE=true":  "[]",
		"__ZONE_NAME=north __ZONE_MODE=false": "[{b-a east} {b-b west}]",
	} {
		if got := brokers(fields); got != want {
			t.Errorf("%s: %s, want %s", fields, got, want)
		}
	}
}

func TestWaitForBrokers(t *testing.T) {
	clock := newTestClock()
	settings := DefaultSettings()
	settings.WaitForBrokers, settings.WaitForBrokersFor = true, 7*time.Second
	n := start(t, Options{Clock: clock, Settings: &settings})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	n.want(protocol.SystemError, n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""))
	clock.advance(t, 5*time.Second)
	n.want(protocol.SystemError, n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""))
	clock.advance(t, 5*time.Second)
	n.want(protocol.Success, n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""))
}

// Answers to hostile names must stay small: remarks repeat what was asked for.
func TestLongNames(t *testing.T) {
	n := start(t, Options{})
	long := strings.Repeat("x", 100_000)
	for _, cmd := range []*protocol.Command{
		request(protocol.GetRouteinfoByTopic, "topic="+long, ""),
		request(protocol.GetKvConfig, "namespace="+long+" key=k", ""),
		request(protocol.GetKvlistByNamespace, "namespace="+long, ""),
		request(protocol.PutKvConfig, "namespace=n key="+long+" value=v", ""),
		request(protocol.RegisterBroker, strings.ReplaceAll(leaderFields, "b-a", long), registration(1, 6, "T", "U")),
		request(protocol.GetBrokerMemberGroup, "clusterName=C brokerName="+long, ""),
		request(protocol.UpdateNamesrvConfig, "", long),
	} {
		if answer := n.send(cmd); len(answer.Remark) > 1000 || len(answer.Body) > 1000 {
			t.Errorf("request %d: remark of %d bytes, body of %d", cmd.Code, len(answer.Remark), len(answer.Body))
		}
	}
}

func TestUnknownCode(t *testing.T) {
	n := start(t, Options{})
	n.want(protocol.RequestCodeNotSupported, n.ask(protocol.SendMessageV2, "", "")) // Java clients without a leader's address send here
}

func TestOptionsAreChecked(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kvConfig.json")
	if _, err := New(Options{}); err == nil {
		t.Error("a name server without KV file")
	}
	if _, err := New(Options{KVConfigPath: path, RequestsMax: -1}); err == nil {
		t.Error("a negative limit")
	}
	if err := os.WriteFile(filepath.Join(dir, overridesName), []byte("x=y"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{KVConfigPath: path}); err == nil || !strings.Contains(err.Error(), overridesName) {
		t.Errorf("a broken file of changed settings: %v", err)
	}
}

// Many clients and brokers at once; the race detector watches, and every broker's own view must be right in the end.
func TestConcurrentRequests(t *testing.T) {
	n := start(t, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			fields := strings.ReplaceAll(leaderFields, "b-a", fmt.Sprint("b-", i))
			for round := range 20 {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				for _, cmd := range []*protocol.Command{
					request(protocol.RegisterBroker, fields, registration(round, 6, "T", fmt.Sprint("own", i))),
					request(protocol.GetRouteinfoByTopic, "topic=T", ""),
					request(protocol.WipeWritePermOfBroker, fmt.Sprint("brokerName=b-", i), ""),
					request(protocol.AddWritePermOfBroker, fmt.Sprint("brokerName=b-", i), ""),
					request(protocol.GetBrokerClusterInfo, "", ""),
				} {
					answer, err := n.client.Call(ctx, n.address, cmd)
					if err != nil || answer.Code != protocol.Success {
						t.Errorf("request %d: %v, %+v", cmd.Code, err, answer)
					}
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if s := n.Table().Stats(); s.Brokers != 8 || s.Topics != 9 || s.Queues != 16 {
		t.Errorf("the table holds %+v", s)
	}
	if err := n.table.consistent(); err != nil {
		t.Error(err)
	}
}

// A peer that sends garbage loses its connection; others do not notice.
func TestGarbage(t *testing.T) {
	n := start(t, Options{})
	n.want(protocol.Success, n.ask(protocol.RegisterBroker, leaderFields, registration(1, 6, "T", "U")))
	for _, garbage := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x08\x00\x00\x00\x04null", "\x7f\xff\xff\xff", "\x00\x00\x00\x00"} {
		conn, err := net.Dial("tcp", n.address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(garbage)); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if got, err := conn.Read(make([]byte, 100)); got > 0 || os.IsTimeout(err) {
			t.Errorf("%q was answered with %d bytes, %v", garbage, got, err)
		}
		conn.Close()
	}
	n.want(protocol.Success, n.ask(protocol.GetRouteinfoByTopic, "topic=T", ""))
}

func TestAllCodesAreHandled(t *testing.T) {
	n := start(t, Options{})
	var missing []int
	for _, code := range []int{100, 101, 102, 103, 104, 105, 106, 205, 206, 216, 217, 219, 224, 304, 311, 312, 313, 318, 319, 322, 327, 901, 904} {
		if n.ask(protocol.RequestCode(code), "", "").Code == protocol.RequestCodeNotSupported {
			missing = append(missing, code)
		}
	}
	if slices.Compact(missing) != nil {
		t.Errorf("not handled: %v", missing)
	}
}
