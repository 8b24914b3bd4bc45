package namesrv

import (
	"errors"
	"hash/crc32"
	"time"

	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

var errChecksum = errors.New("crc32 not match")

// IncrementalField is an ext field of a registration that names only topics which changed: "true". Apache's brokers do not
// send it and its name servers ignore it.
const IncrementalField = "rmqIncremental"

// watched marks a connection whose end the name server hears of.
type watched struct{}

func (s *NameServer) registerBroker(r *remoting.Request) *protocol.Command {
	settings := s.settings.get()
	in, err := parseRegistration(r.Cmd, settings.CompleteTopics)
	if err != nil {
		return s.refuseRegistration(r, &in, err)
	}
	in.Owner = r.Conn.ID()
	out, err := s.table.Register(in)
	if err != nil {
		return s.refuseRegistration(r, &in, err)
	}
	s.logRegistration(&in, &out)
	s.observe(in.BrokerName, in.HAAddress)
	if out.NewLeader {
		s.held.release(func(topic string) bool { return !s.table.Awaited(topic) })
	}
	if !out.Ignored && r.Conn.Value(watched{}) == nil {
		r.Conn.SetValue(watched{}, true)
		r.Conn.OnClose(func() { s.disconnected(in.Owner) })
	}

	answer := successHeader(r, &protocol.RegisterBrokerResponseHeader{HAServerAddr: out.LeaderHAAddress, MasterAddr: out.LeaderAddress})
	if settings.OrderConfToBrokers {
		if entries, ok := s.kv.Namespace(OrderTopicNamespace); ok {
			if answer.Body, err = fastjson.Marshal(protocol.KVTable{Table: entries}); err != nil {
				return failure(r, err)
			}
		}
	}
	return answer
}

// parseRegistration reads a REGISTER_BROKER request; on an error the result holds what could be read. complete says that
// registrations name all of their broker's topics, as far as they do not say otherwise.
func parseRegistration(cmd *protocol.Command, complete bool) (Registration, error) {
	var h protocol.RegisterBrokerRequestHeader
	err := h.Decode(cmd.Ext)
	in := Registration{
		Cluster:          h.ClusterName,
		BrokerName:       h.BrokerName,
		ID:               h.BrokerID,
		Address:          h.BrokerAddr,
		HAAddress:        h.HAServerAddr,
		Zone:             h.ZoneName,
		Expiry:           milliseconds(h.HeartbeatTimeoutMillis),
		SmallestIDSpeaks: h.HasEnableActingMaster,
		ActingMaster:     h.EnableActingMaster,
	}
	if err != nil {
		return in, err
	}
	if h.BodyCrc32 != 0 && int32(crc32.ChecksumIEEE(cmd.Body)&0x7fffffff) != h.BodyCrc32 {
		return in, errChecksum
	}
	if in.Version, in.Topics, err = registeredTopics(cmd, h.Compressed); err != nil {
		return in, err
	}
	// An Apache broker does not say whether it names all of its topics. It has several from the start, so one topic alone is
	// news about that topic.
	incremental, _ := cmd.Ext.Get(IncrementalField)
	in.Complete = complete && incremental != "true" && len(in.Topics) > 1
	return in, nil
}

func (s *NameServer) refuseRegistration(r *remoting.Request, in *Registration, err error) *protocol.Command {
	s.logger.Warn("a registration was refused", "broker", clip(in.BrokerName), "id", in.ID, "address", clip(in.Address),
		"from", r.Conn.RemoteAddr(), "error", err)
	return failure(r, err)
}

func (s *NameServer) logRegistration(in *Registration, out *Registered) {
	switch {
	case out.Ignored:
		s.logger.Warn("a registration of an older term was ignored", "broker", in.BrokerName, "id", in.ID, "address", in.Address,
			"leader", out.LeaderAddress)
	case out.NewReplica:
		// Operators search for this text.
		s.logger.Info("new broker registered, BrokerIdentityInfo [clusterName="+in.Cluster+", brokerAddr="+in.Address+"] HAService: "+in.HAAddress,
			"broker", in.BrokerName, "id", in.ID)
	}
	if out.SkippedTopics > 0 {
		s.logger.Warn("topics with unusable names were left out", "broker", in.BrokerName, "topics", out.SkippedTopics)
	}
}

func (s *NameServer) unregisterBroker(r *remoting.Request) *protocol.Command {
	var h protocol.UnRegisterBrokerRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	if s.table.Unregister(h.BrokerName, h.BrokerAddr) {
		s.logger.Info("broker unregistered", "broker", h.BrokerName, "id", h.BrokerID, "address", h.BrokerAddr)
		s.observe(h.BrokerName, "")
	}
	return success(r)
}

func (s *NameServer) heartbeat(r *remoting.Request) *protocol.Command {
	var h protocol.BrokerHeartbeatRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	s.table.Touch(h.BrokerName, h.BrokerAddr)
	return success(r)
}

// queryDataVersion tells a broker whether it has to register at all. Asking is a sign of life.
func (s *NameServer) queryDataVersion(r *remoting.Request) *protocol.Command {
	var h protocol.QueryDataVersionRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	var asked protocol.DataVersion
	if err := decodeBody(r, &asked); err != nil {
		return failure(r, err)
	}
	known, ok := s.table.VersionOf(h.BrokerName, h.BrokerAddr)
	if !ok {
		return successHeader(r, &protocol.QueryDataVersionResponseHeader{Changed: true})
	}
	s.table.Touch(h.BrokerName, h.BrokerAddr)
	answer := successBody(r, dataVersion(known), fastjson.Marshal)
	answer.Ext = (&protocol.QueryDataVersionResponseHeader{Changed: known != versionOf(asked)}).AppendFields(answer.Ext)
	return answer
}

func (s *NameServer) registerTopic(r *remoting.Request) *protocol.Command {
	var h protocol.RegisterTopicRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	var route protocol.TopicRouteData
	if err := decodeBody(r, &route); err != nil {
		return failure(r, err)
	}
	if err := s.table.RegisterTopic(h.Topic, queueDatas(route.QueueDatas)); err != nil {
		return failure(r, err)
	}
	return success(r)
}

// milliseconds is n ms, at most a day; nothing that is counted in them here has to be longer.
func milliseconds(n int64) time.Duration {
	const day = 24 * time.Hour
	return time.Duration(min(n, day.Milliseconds())) * time.Millisecond
}
