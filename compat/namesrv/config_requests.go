package namesrv

import (
	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

func (s *NameServer) putKV(r *remoting.Request) *protocol.Command {
	var h protocol.PutKVConfigRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	if err := s.kv.Put(h.Namespace, h.Key, h.Value); err != nil {
		return failure(r, err)
	}
	s.logger.Info("KV configuration changed", "namespace", h.Namespace, "key", h.Key, "by", r.Conn.RemoteAddr())
	return success(r)
}

func (s *NameServer) getKV(r *remoting.Request) *protocol.Command {
	var h protocol.GetKVConfigRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	value, ok := s.kv.Get(h.Namespace, h.Key)
	if !ok {
		return protocol.NewResponse(r.Cmd, protocol.QueryNotFound, "No config item, Namespace: "+clip(h.Namespace)+" Key: "+clip(h.Key))
	}
	return successHeader(r, &protocol.GetKVConfigResponseHeader{Value: value})
}

func (s *NameServer) deleteKV(r *remoting.Request) *protocol.Command {
	var h protocol.DeleteKVConfigRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	if err := s.kv.Delete(h.Namespace, h.Key); err != nil {
		return failure(r, err)
	}
	s.logger.Info("KV configuration deleted", "namespace", h.Namespace, "key", h.Key, "by", r.Conn.RemoteAddr())
	return success(r)
}

func (s *NameServer) getKVNamespace(r *remoting.Request) *protocol.Command {
	var h protocol.GetKVListByNamespaceRequestHeader
	if err := h.Decode(r.Cmd.Ext); err != nil {
		return failure(r, err)
	}
	entries, ok := s.kv.Namespace(h.Namespace)
	if !ok {
		return protocol.NewResponse(r.Cmd, protocol.QueryNotFound, "No config item, Namespace: "+clip(h.Namespace))
	}
	return successBody(r, protocol.KVTable{Table: entries}, fastjson.Marshal)
}

func (s *NameServer) getConfig(r *remoting.Request) *protocol.Command {
	answer := success(r)
	answer.Body = []byte(s.settings.text())
	return answer
}

func (s *NameServer) updateConfig(r *remoting.Request) *protocol.Command {
	if err := s.settings.update(string(r.Cmd.Body)); err != nil {
		s.logger.Warn("a change of configuration was refused", "by", r.Conn.RemoteAddr(), "error", err)
		return failure(r, err)
	}
	s.logger.Info("configuration changed", "by", r.Conn.RemoteAddr(), "text", string(r.Cmd.Body))
	return success(r)
}
