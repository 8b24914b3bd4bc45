package namesrv

import (
	"errors"
	"fmt"
	"strings"

	"rmq/remoting"
	"rmq/remoting/fastjson"
	"rmq/remoting/protocol"
)

// bodyBytesMax is what fits into a frame beside its header.
const bodyBytesMax = protocol.MaxFrame - 64<<10

func success(r *remoting.Request) *protocol.Command {
	return protocol.NewResponse(r.Cmd, protocol.Success, "")
}

// successHeader is success with a response header.
func successHeader(r *remoting.Request, h protocol.Header) *protocol.Command {
	c := success(r)
	c.Ext = h.AppendFields(c.Ext)
	return c
}

// successBody is success with v as JSON.
func successBody(r *remoting.Request, v any, marshal func(any) ([]byte, error)) *protocol.Command {
	body, err := marshal(v)
	if err == nil && len(body) > bodyBytesMax {
		err = fmt.Errorf("the answer has %d bytes, a frame holds %d", len(body), bodyBytesMax)
	}
	if err != nil {
		return failure(r, err)
	}
	c := success(r)
	c.Body = body
	return c
}

// failure words an error for the one who asked. This is the only place that knows which error has which response code.
func failure(r *remoting.Request, err error) *protocol.Command {
	code := protocol.SystemError
	switch {
	case errors.Is(err, ErrFixedKey):
		code = protocol.NoPermission
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrUnknownKey), errors.Is(err, ErrBadValue):
		code = protocol.InvalidParameter
	case errors.Is(err, ErrGroupHeld):
		code = protocol.GroupHeld
	case errors.Is(err, errStaleReport):
		code = protocol.GroupReportStale
	}
	return protocol.NewResponse(r.Cmd, code, err.Error())
}

// decodeBody reads the request's JSON body; none leaves v as it is.
func decodeBody(r *remoting.Request, v any) error {
	if len(r.Cmd.Body) == 0 {
		return nil
	}
	if err := fastjson.Unmarshal(r.Cmd.Body, v); err != nil {
		return fmt.Errorf("request body: %w", err)
	}
	return nil
}

// clipBytes is how much of a name that somebody sent is repeated in a remark.
const clipBytes = 300

func clip(s string) string {
	if len(s) <= clipBytes {
		return s
	}
	return strings.ToValidUTF8(s[:clipBytes], "") + "..."
}
