package namesrv

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// Refusals that admin tools show as they are.
var (
	errNotReady = errors.New("name server not ready")
	errDisabled = errors.New("disable")
)

// routeFAQ ends the remark of an answer without route. Users search for this sentence.
const routeFAQ = "\nSee http://rocketmq.apache.org/docs/faq/ for further details."

// routeQuery is what a route request asks for, apart from the request itself: its answer may be worked out again later.
type routeQuery struct {
	topic    string
	zone     string // empty: brokers of all zones
	standard bool   // JSON with quoted keys
}

func parseRouteQuery(cmd *protocol.Command) (routeQuery, error) {
	var h protocol.GetRouteInfoRequestHeader
	if err := h.Decode(cmd.Ext); err != nil {
		return routeQuery{}, err
	}
	q := routeQuery{topic: h.Topic, standard: cmd.Version >= protocol.V4_9_4 || h.AcceptStandardJSONOnly}
	if strings.EqualFold(h.ZoneMode, "true") {
		q.zone = strings.TrimSpace(h.ZoneName)
	}
	return q, nil
}

// holdFor is how long a route request waits for a group's next leader: Java clients give up after 3 s.
const holdFor = 2 * time.Second

// getRoute answers a route request, now or when the group that was leaderless has a leader.
func (s *NameServer) getRoute(r *remoting.Request) {
	q, err := parseRouteQuery(r.Cmd)
	if err != nil {
		r.Reply(failure(r, err))
		return
	}
	settings := s.settings.get()
	if settings.WaitForBrokers && s.clock.Now().Sub(s.started) < settings.WaitForBrokersFor {
		r.Reply(failure(r, errNotReady))
		return
	}
	if s.table.Awaited(q.topic) {
		r.Detach()
		if held := s.held.hold(r, q.topic, holdFor, func() { s.answerHeld(r, q) }); held != nil {
			if !s.table.Awaited(q.topic) { // a leader came between the first look and holding
				s.held.end(held)
			}
			return
		}
	}
	r.Reply(s.routeAnswer(r, q, &settings))
}

func (s *NameServer) answerHeld(r *remoting.Request, q routeQuery) {
	settings := s.settings.get()
	r.Reply(s.routeAnswer(r, q, &settings))
}

// routeAnswer answers a route request from the table as it is now.
func (s *NameServer) routeAnswer(r *remoting.Request, q routeQuery, settings *Settings) *protocol.Command {
	actingAfter := s.opts.ActingMasterDelay
	if !settings.ActingMaster {
		actingAfter = -1
	}
	route, ok := s.table.Route(q.topic, actingAfter)
	if !ok {
		return protocol.NewResponse(r.Cmd, protocol.TopicNotExist, "No topic route info in name server for the topic: "+clip(q.topic)+routeFAQ)
	}
	if q.zone != "" {
		route.InZone(q.zone)
	}
	data := routeData(&route)
	if settings.OrderMessages {
		data.OrderTopicConf, _ = s.kv.Get(OrderTopicNamespace, q.topic)
	}
	if q.standard {
		return successBody(r, data, fastjson.Marshal)
	}
	return successBody(r, data, fastjson.MarshalLegacy)
}

func (s *NameServer) getClusterInfo(r *remoting.Request) *protocol.Command {
	return successBody(r, clusterInfo(s.table.Brokers()), fastjson.MarshalLegacy)
}

func (s *NameServer) getMemberGroup(r *remoting.Request) *protocol.Command {
	var h protocol.GetBrokerMemberGroupRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	if !ValidName(h.ClusterName) || !ValidName(h.BrokerName) {
		return failure(r, fmt.Errorf("%w: cluster %q, broker %q", ErrInvalid, clip(h.ClusterName), clip(h.BrokerName)))
	}
	b, _ := s.table.Broker(h.BrokerName)
	return successBody(r, memberGroup(h.ClusterName, h.BrokerName, b.Addresses), fastjson.MarshalLegacy)
}

func (s *NameServer) deleteTopic(r *remoting.Request) *protocol.Command {
	var h protocol.DeleteTopicFromNamesrvRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	s.table.DeleteTopic(h.Topic, h.ClusterName)
	s.logger.Info("topic deleted", "topic", h.Topic, "cluster", h.ClusterName, "by", r.Conn.RemoteAddr())
	return success(r)
}

func (s *NameServer) getAllTopics(r *remoting.Request) *protocol.Command {
	if !s.settings.get().AllTopicList {
		return failure(r, errDisabled)
	}
	return successBody(r, protocol.TopicList{TopicList: s.table.Topics()}, fastjson.Marshal)
}

func (s *NameServer) getTopicsOfCluster(r *remoting.Request) *protocol.Command {
	var h protocol.GetTopicsByClusterRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	return s.topicList(func() []string { return s.table.TopicsOfCluster(h.Cluster) })(r)
}

// topicList answers with a list of topics that may be switched off as a whole.
func (s *NameServer) topicList(list func() []string) func(*remoting.Request) *protocol.Command {
	return func(r *remoting.Request) *protocol.Command {
		if !s.settings.get().TopicLists {
			return failure(r, errDisabled)
		}
		return successBody(r, protocol.TopicList{TopicList: list()}, fastjson.Marshal)
	}
}

func (s *NameServer) getSystemTopics(r *remoting.Request) *protocol.Command {
	names, address := s.table.SystemTopics()
	return successBody(r, protocol.TopicList{TopicList: names, BrokerAddr: address}, fastjson.Marshal)
}

func (s *NameServer) wipeWritePerm(r *remoting.Request) *protocol.Command {
	var h protocol.WipeWritePermOfBrokerRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	n := s.table.WipeWritePerm(h.BrokerName)
	s.logger.Info("write permission withdrawn", "broker", h.BrokerName, "topics", n, "by", r.Conn.RemoteAddr())
	if err := s.rememberWipes(); err != nil {
		return failure(r, err)
	}
	return successHeader(r, &protocol.WipeWritePermOfBrokerResponseHeader{WipeTopicCount: int32(n)})
}

func (s *NameServer) addWritePerm(r *remoting.Request) *protocol.Command {
	var h protocol.AddWritePermOfBrokerRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	n := s.table.AddWritePerm(h.BrokerName)
	s.logger.Info("write permission given", "broker", h.BrokerName, "topics", n, "by", r.Conn.RemoteAddr())
	if err := s.rememberWipes(); err != nil {
		return failure(r, err)
	}
	return successHeader(r, &protocol.AddWritePermOfBrokerResponseHeader{AddTopicCount: int32(n)})
}
