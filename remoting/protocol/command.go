package protocol

// Flag bits of Command.Flag.
const (
	flagResponse int32 = 1 << 0
	flagOneway   int32 = 1 << 1
)

// Codec says how the header of a frame is written. It is a byte of the frame itself, so both forms may
// be mixed on one connection.
type Codec uint8

// The two header codecs. Anything else in a frame is an error.
const (
	CodecJSON   Codec = 0 // JSON text, what clients use unless told otherwise
	CodecBinary Codec = 1 // the ROCKETMQ binary form
)

// Command is one request or response as it travels: the header's fixed members, its ext fields and the
// body. It is a plain value without locks; DecodeFrame fills one, AppendFrameHead writes one. A Command
// may be used for many frames in turn, which saves the allocation of Ext.
type Command struct {
	Code     int32    // a request code, or in a response a response code
	Language Language // of the sender
	Version  int32    // MQVersion ordinal of the sender
	Opaque   int32    // chosen by the requester, echoed in the response
	Flag     int32    // bit 0 response, bit 1 oneway
	Remark   string   // error text of a response; empty is written as absent
	Ext      Fields   // nil is written as absent, empty as an empty object
	Codec    Codec    // header codec the frame used, or is to use
	Body     []byte   // nil and empty are the same on the wire
}

// IsResponse reports whether the command answers a request. Bit 0 of Flag alone decides it.
func (c *Command) IsResponse() bool { return c.Flag&flagResponse != 0 }

// IsOneway reports whether the sender waits for no answer. A oneway request must never be answered.
func (c *Command) IsOneway() bool { return c.Flag&flagOneway != 0 }

// MarkOneway tells the receiver to send no answer.
func (c *Command) MarkOneway() { c.Flag |= flagOneway }

// NewRequest returns a request in the JSON codec with the fields of h, which may be nil. The caller (or
// the connection) sets Opaque.
func NewRequest(code int32, h Header) *Command {
	c := &Command{Code: code, Language: LanguageJava, Version: MQVersion}
	if h != nil {
		c.Ext = h.AppendFields(c.Ext)
	}
	return c
}

// NewResponse returns an answer to req: same opaque, same header codec, response flag set. Ext is empty
// but present, because Java clients dereference it without a check.
func NewResponse(req *Command, code int32, remark string) *Command {
	return &Command{
		Code:     code,
		Language: LanguageJava,
		Version:  MQVersion,
		Opaque:   req.Opaque,
		Flag:     flagResponse,
		Remark:   remark,
		Ext:      Fields{},
		Codec:    req.Codec,
	}
}
