package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"time"
)

// Request codes of RocketMQ that the driver itself sends.
const (
	codeQueryOffset = 14
	codeCreateTopic = 17
	codeRoute       = 105
	codeClusterInfo = 106
)

const callTimeout = 5 * time.Second

// answer is a response of a server.
type answer struct {
	code   int
	remark string
	fields map[string]string
	body   []byte
}

// call sends one request on a connection of its own. Nothing is shared, so it may go to servers that die meanwhile.
func call(ctx context.Context, addr string, code int, fields map[string]string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return answer{}, err
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	header, err := json.Marshal(map[string]any{"code": code, "language": "GO", "version": 399, "opaque": 1, "flag": 0, "extFields": fields})
	if err != nil {
		return answer{}, err
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header)))
	if _, err := conn.Write(append(frame, header...)); err != nil {
		return answer{}, err
	}
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return answer{}, err
	}
	const limit = 16 << 20
	n := binary.BigEndian.Uint32(size[:])
	if n < 4 || n > limit {
		return answer{}, fmt.Errorf("a frame of %d bytes", n)
	}
	frame = make([]byte, n)
	if _, err := io.ReadFull(conn, frame); err != nil {
		return answer{}, err
	}
	headerLen := binary.BigEndian.Uint32(frame) & 0xffffff
	if int(headerLen) > len(frame)-4 {
		return answer{}, errors.New("the header is longer than its frame")
	}
	var h struct {
		Code      int
		Remark    string
		ExtFields map[string]string
	}
	if err := json.Unmarshal(frame[4:4+headerLen], &h); err != nil {
		return answer{}, err
	}
	return answer{h.Code, h.Remark, h.ExtFields, frame[4+headerLen:]}, nil
}

// ask is call for requests that must be answered with success.
func ask(ctx context.Context, addr string, code int, fields map[string]string) (answer, error) {
	a, err := call(ctx, addr, code, fields)
	if err == nil && a.code != 0 {
		err = fmt.Errorf("request %d to %s: code %d, %s", code, addr, a.code, a.remark)
	}
	return a, err
}

// bareKey is a number as a key, which the servers write as fastjson does: without quotes.
var bareKey = regexp.MustCompile(`([{,])(\d+):`)

// routeGroups counts the groups that the route of a topic shows a leader of.
func routeGroups(ctx context.Context, namesrv, topic string) (int, error) {
	a, err := ask(ctx, namesrv, codeRoute, map[string]string{"topic": topic})
	if err != nil {
		return 0, err
	}
	var r struct {
		BrokerDatas []struct{ BrokerAddrs map[string]string }
	}
	if err := json.Unmarshal(bareKey.ReplaceAll(a.body, []byte(`$1"$2":`)), &r); err != nil {
		return 0, fmt.Errorf("route of %s: %w", topic, err)
	}
	n := 0
	for _, d := range r.BrokerDatas {
		if d.BrokerAddrs["0"] != "" {
			n++
		}
	}
	return n, nil
}

func createTopic(ctx context.Context, broker, topic string, queues int) error {
	n := strconv.Itoa(queues)
	_, err := ask(ctx, broker, codeCreateTopic, map[string]string{"topic": topic, "defaultTopic": "TBW102", "readQueueNums": n, "writeQueueNums": n,
		"perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"})
	return err
}

// queryOffset returns the progress of a group that a broker answers with; false if it knows none.
func queryOffset(ctx context.Context, broker, group, topic string, queue int) (int64, bool, error) {
	const notFound = 22
	a, err := call(ctx, broker, codeQueryOffset, map[string]string{"consumerGroup": group, "topic": topic, "queueId": strconv.Itoa(queue)})
	switch {
	case err != nil:
		return 0, false, err
	case a.code == notFound:
		return 0, false, nil
	case a.code != 0:
		return 0, false, fmt.Errorf("offset of %s: code %d, %s", group, a.code, a.remark)
	}
	n, err := strconv.ParseInt(a.fields["offset"], 10, 64)
	return n, err == nil, err
}
