package namesrv

import (
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rmq/remoting/protocol"
)

// exchange is a request to an Apache 4.9.8 name server and its answer, as recorded.
type exchange struct {
	code              int
	request, response []byte // whole frames; response is empty for a oneway request
}

func recordedExchanges(t *testing.T) []exchange {
	t.Helper()
	file, err := os.Open("../../remoting/protocol/testdata/remoting-4.9.8.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zip, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []exchange
	for lines := json.NewDecoder(zip); ; {
		var line struct {
			Code              int
			Side              string
			Request, Response struct{ Frame string }
		}
		if err := lines.Decode(&line); err == io.EOF {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if line.Side != "client->namesrv" {
			continue
		}
		e := exchange{code: line.Code}
		if e.request, err = base64.StdEncoding.DecodeString(line.Request.Frame); err != nil {
			t.Fatal(err)
		}
		if e.response, err = base64.StdEncoding.DecodeString(line.Response.Frame); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
}

// replay sends recorded frames over a connection and returns the frames that come back.
type replay struct {
	t    *testing.T
	conn net.Conn
}

func (r *replay) exchange(request []byte, oneway bool) []byte {
	r.t.Helper()
	if err := r.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.conn.Write(request); err != nil {
		r.t.Fatal(err)
	}
	if oneway {
		return nil
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(r.conn, head); err != nil {
		r.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head))
	if _, err := io.ReadFull(r.conn, body); err != nil {
		r.t.Fatal(err)
	}
	return append(head, body...)
}

func decode(t *testing.T, frame []byte) *protocol.Command {
	t.Helper()
	cmd := &protocol.Command{}
	if err := protocol.DecodeFrame(frame[4:], cmd); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// normalised is what of an answer must be equal: not the versions, nor the order in which Java's hash maps give things.
func normalised(t *testing.T, cmd *protocol.Command) string {
	t.Helper()
	fields := slices.Clone(cmd.Ext)
	slices.SortFunc(fields, func(a, b protocol.Field) int { return cmp.Compare(a.Key, b.Key) })
	body := string(cmd.Body)
	// A 5.x name server adds this to the answers of a 4.x one; all clients accept either.
	body = strings.ReplaceAll(body, `,"enableActingMaster":false`, "")
	for _, list := range []string{`"brokerDatas":[`, `"queueDatas":[`, `"topicList":[`, `"clusterAddrTable":{"DefaultCluster":[`, `"brokerAddrTable":{`} {
		body = sortList(body, list)
	}
	return fmt.Sprintf("code %d flag %d opaque %d codec %d remark %q ext %v\n%s", cmd.Code, cmd.Flag, cmd.Opaque, cmd.Codec, cmd.Remark, fields, body)
}

// sortList sorts the elements of the JSON list or object that follows the given text.
func sortList(body, after string) string {
	_, rest, ok := strings.Cut(body, after)
	if !ok {
		return body
	}
	var elements []string
	depth, from := 1, 0
	for i, c := range rest {
		switch c {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if (c == ',' && depth == 1) || depth == 0 {
			elements = append(elements, rest[from:i])
			from = i + 1
		}
		if depth == 0 {
			slices.Sort(elements)
			return strings.Replace(body, after+rest[:i], after+strings.Join(elements, ","), 1)
		}
	}
	return body
}

// TestRecordedExchanges plays requests of Apache's clients and brokers against the state they were recorded in, and
// compares the answers with those of Apache's name server.
func TestRecordedExchanges(t *testing.T) {
	n := start(t, Options{FixedKeys: map[string]string{
		"serverChannelMaxIdleTimeSeconds": "120", "listenPort": "9876", "kvConfigPath": "/tmp/hk/tmp/namesrv/kvConfig.json",
	}})
	conn, err := net.Dial("tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := &replay{t, conn}

	byCode := map[int][]exchange{}
	for _, e := range recordedExchanges(t) {
		byCode[e.code] = append(byCode[e.code], e)
	}
	// broker-b is there by its own recorded registrations. Those of broker-a were not recorded: 64 topics.
	brokerA := strings.NewReplacer("b-a", "broker-a", "10.0.0.1:10911", "127.0.0.1:10911", "clusterName=C", "clusterName=DefaultCluster").Replace(leaderFields)
	topicsA := []string{"WalkLive", "%RETRY%WalkLiveG", "BenchmarkTest", "OFFSET_MOVED_EVENT", "SELF_TEST_TOPIC", "DefaultCluster", "SCHEDULE_TOPIC_XXXX",
		"WalkT1B", "DefaultCluster_REPLY_TOPIC", "WalkT1", "broker-a"}
	registerA := func(counter int, topics ...string) {
		t.Helper()
		body := registration(counter, 6, topics...)
		body = strings.Replace(body, `"topicConfigTable":{`, `"topicConfigTable":{"TBW102":{"perm":7,"readQueueNums":8,"topicName":"TBW102","topicSysFlag":0,"writeQueueNums":8},`, 1)
		n.want(protocol.Success, n.ask(protocol.RegisterBroker, brokerA, body))
	}
	check := func(e exchange) {
		t.Helper()
		answer := decode(t, r.exchange(e.request, false))
		if got, want := normalised(t, answer), normalised(t, decode(t, e.response)); got != want {
			t.Errorf("request %d was answered\n%s\nwant\n%s", e.code, got, want)
		}
	}

	routes := byCode[int(protocol.GetRouteinfoByTopic)]
	check(routes[0]) // before anybody serves the topic
	for i, e := range byCode[int(protocol.RegisterBroker)] {
		if len(e.response) == 0 {
			r.exchange(e.request, true)
		} else {
			check(e)
		}
		if i == 0 {
			continue
		}
		eventually(t, "broker-b is there", func() bool { return n.Table().Stats().Brokers == 1 })
	}
	registerA(1, topicsA...)
	check(byCode[int(protocol.GetAllTopicListFromNameserver)][0])
	for _, e := range byCode[int(protocol.GetBrokerClusterInfo)] {
		check(e)
	}

	registerA(2, append(slices.Clone(topicsA), manyTopics(64-1-len(topicsA))...)...)
	for _, e := range routes[1:] {
		request := decode(t, e.request)
		topic, _ := request.Ext.Get("topic")
		_, streamed := request.Ext.Get("ReqT")
		switch {
		case len(e.response) == 0: // the connection ended before the answer
			continue
		case topic == "HoldoutGo":
			for _, broker := range []string{"broker-a", "broker-b"} {
				queue := QueueData{BrokerName: broker, ReadQueues: 4, WriteQueues: 4, Perm: 6}
				if err := n.Table().RegisterTopic(topic, []QueueData{queue}); err != nil {
					t.Fatal(err)
				}
			}
			check(e)
			n.Table().DeleteTopic(topic, "")
		case streamed: // recorded after write permission was taken from and given back to broker-a
			check(byCode[int(protocol.WipeWritePermOfBroker)][0])
			check(byCode[int(protocol.AddWritePermOfBroker)][0])
			check(e)
			registerA(3, topicsA...)
		default:
			check(e)
		}
	}
	for _, e := range byCode[int(protocol.DeleteTopicInNamesrv)] {
		check(e)
	}

	check(byCode[int(protocol.PutKvConfig)][0])
	n.want(protocol.Success, n.ask(protocol.PutKvConfig, "namespace=ORDER_TOPIC_CONFIG key=WalkT1795354459 value=broker-a:4", ""))
	check(byCode[int(protocol.GetKvConfig)][0])
	check(byCode[int(protocol.DeleteKvConfig)][0])

	config := byCode[int(protocol.GetNamesrvConfig)][0]
	ours := string(decode(t, r.exchange(config.request, false)).Body)
	theirs := string(decode(t, config.response).Body)
	for _, key := range []string{"serverChannelMaxIdleTimeSeconds", "listenPort", "orderMessageEnable", "kvConfigPath"} {
		line := regexp.MustCompile(`(?m)^` + key + `=.*$`)
		if got, want := line.FindString(ours), line.FindString(theirs); got != want {
			t.Errorf("configuration has %q, want %q", got, want)
		}
	}
}

func manyTopics(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint("more", i))
	}
	return out
}
