package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"testing"

	"rmq/remoting/fastjson"
)

// encode returns c's whole frame.
func encode(t testing.TB, c *Command) []byte {
	t.Helper()
	out, err := AppendFrameHead(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	return append(out, c.Body...)
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The frames that Apache's own classes wrote for one and the same command.
func goldenFrames(t testing.TB) map[Codec][]byte {
	header := `{"code":105,"extFields":{"topic":"T"},"flag":0,"language":"JAVA","opaque":7,"serializeTypeCurrentRPC":"JSON","version":479}`
	return map[Codec][]byte{
		CodecJSON: append(append(unhex(t, "00000081 0000007b"), header...), "hi"...),
		CodecBinary: unhex(t, "00000027 01000021 0069 00 01df 00000007 00000000 00000000 0000000c 0005 746f706963"+
			"00000001 54 6869"),
	}
}

func TestGoldenFrames(t *testing.T) {
	for codec, golden := range goldenFrames(t) {
		c := NewRequest(GetRouteinfoByTopic, &GetRouteInfoRequestHeader{Topic: "T"})
		c.Opaque, c.Codec, c.Body = 7, codec, []byte("hi")
		if got := encode(t, c); !bytes.Equal(got, golden) {
			t.Errorf("codec %d: wrote\n%q, want\n%q", codec, got, golden)
		}
		var back Command
		if err := DecodeFrame(golden[4:], &back); err != nil {
			t.Fatal(err)
		}
		topic, _ := back.Ext.Get("topic")
		if back.Code != 105 || back.Language != LanguageJava || back.Version != 479 || back.Opaque != 7 || back.Flag != 0 ||
			back.Remark != "" || len(back.Ext) != 1 || topic != "T" || back.Codec != codec || string(back.Body) != "hi" {
			t.Errorf("codec %d: read %+v", codec, back)
		}
	}
}

// Every recorded frame reads as the recorder says. What Java wrote is written again byte for byte.
func TestVectorFrames(t *testing.T) {
	var c Command // used for all, as a connection does
	again := map[Codec]int{}
	for i, v := range vectorFrames(t) {
		if got := int(binary.BigEndian.Uint32(v.Frame)); got != len(v.Frame)-4 {
			t.Fatalf("frame %d: length word %d", i, got)
		}
		if err := DecodeFrame(v.Frame[4:], &c); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		want := &v.Header
		remark := ""
		if want.Remark != nil {
			remark = *want.Remark
		}
		if c.Code != want.Code || c.Version != want.Version || c.Opaque != want.Opaque || c.Flag != want.Flag ||
			c.Codec != v.SerializeType || len(c.Body) != v.BodyLen {
			t.Errorf("frame %d: read %+v, want %+v", i, c, want)
		}
		if c.Codec == CodecJSON && (c.Remark != remark || len(c.Ext) != len(want.ExtFields)) { // not recorded of binary frames
			t.Errorf("frame %d: read remark %q and fields %q, want %q and %q", i, c.Remark, c.Ext, remark, want.ExtFields)
		}
		if name, err := strconv.Unquote(string(want.Language)); err == nil && c.Language.String() != name {
			t.Errorf("frame %d: language %s, want %s", i, c.Language, name)
		}
		for key, value := range want.ExtFields {
			if got, ok := c.Ext.Get(key); !ok || got != value {
				t.Errorf("frame %d: ext field %s is %q, want %q", i, key, got, value)
			}
		}
		if c.Codec == CodecJSON && c.Language != LanguageJava {
			continue
		}
		again[c.Codec]++
		if len(c.Ext) == 0 {
			c.Ext = nil
			if bytes.Contains(v.Frame, []byte(`"extFields":{}`)) {
				c.Ext = Fields{}
			}
		}
		if got := encode(t, &c); !bytes.Equal(got, v.Frame) {
			t.Errorf("frame %d: written again as\n%q, was\n%q", i, got, v.Frame)
		}
	}
	if again[CodecJSON] < 50 || again[CodecBinary] < 20 {
		t.Errorf("wrote %v frames again, want more", again)
	}
}

// jsonFrame is a frame (without length word) around a JSON header.
func jsonFrame(header string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(header))), header...)
}

func TestJSONHeaderIsReadLeniently(t *testing.T) {
	tests := map[string]func(c *Command) bool{
		`{}`:                                      func(c *Command) bool { return c.Code == 0 && c.Language == LanguageJava },
		` { "code" : 10 , "opaque" : -1 } `:       func(c *Command) bool { return c.Code == 10 && c.Opaque == -1 },
		`{"code":"10","version":"317"}`:           func(c *Command) bool { return c.Code == 10 && c.Version == 317 },
		`{"code":null,"remark":null}`:             func(c *Command) bool { return c.Code == 0 && c.Remark == "" },
		`{"language":"go"}`:                       func(c *Command) bool { return c.Language == LanguageGo },
		`{"language":12}`:                         func(c *Command) bool { return c.Language == LanguageRust },
		`{"language":"12"}`:                       func(c *Command) bool { return c.Language == LanguageRust },
		`{"language":"COBOL"}`:                    func(c *Command) bool { return c.Language == LanguageOther },
		`{"language":99}`:                         func(c *Command) bool { return c.Language == LanguageOther },
		`{"language":null}`:                       func(c *Command) bool { return c.Language == LanguageJava },
		`{"extFields":null}`:                      func(c *Command) bool { return len(c.Ext) == 0 },
		`{"extFields":{}}`:                        func(c *Command) bool { return len(c.Ext) == 0 },
		`{"extFields":{"a":1,"b":true,"c":-1.5}}`: func(c *Command) bool { return has(c, "a", "1") && has(c, "b", "true") && has(c, "c", "-1.5") },
		`{"extFields":{"a":null}}`:                func(c *Command) bool { return len(c.Ext) == 0 },
		`{"extFields":{"a":"x","a":"y"}}`:         func(c *Command) bool { return has(c, "a", "y") },
		`{"extFields":{"\u0061":"\u00e9\n\/\uD83D\uDE00\ud83d"}}`: func(c *Command) bool { return has(c, "a", "é\n/😀\uFFFD") },
		`{"other":{"x":[1,{"y":"}"}],"z":null},"code":5}`:         func(c *Command) bool { return c.Code == 5 },
		`{"code":1,"code":2}`:                      func(c *Command) bool { return c.Code == 2 },
		"{\"remark\":\"\xff\xfe\"}":                func(c *Command) bool { return c.Remark == "\xff\xfe" },
		`{"serializeTypeCurrentRPC":"JSON"}`:       func(c *Command) bool { return c.Codec == CodecJSON },
		`{"flag":3,"remark":"topic[\"T\"]"}`:       func(c *Command) bool { return c.IsResponse() && c.IsOneway() && c.Remark == `topic["T"]` },
		`{"flag":2147483647,"opaque":-2147483648}`: func(c *Command) bool { return c.Flag == 2147483647 && c.Opaque == -2147483648 },
	}
	for header, ok := range tests {
		var c Command
		if err := DecodeFrame(jsonFrame(header), &c); err != nil {
			t.Errorf("%s: %v", header, err)
		} else if !ok(&c) {
			t.Errorf("%s: read %+v", header, c)
		}
	}
}

func has(c *Command, key, value string) bool {
	got, ok := c.Ext.Get(key)
	return ok && got == value
}

func TestBadFramesAreRefused(t *testing.T) {
	deep := strings.Repeat("[", 100) + strings.Repeat("]", 100)
	many := strings.Builder{}
	for i := range MaxExt + 1 {
		many.WriteString(`,"k` + strconv.Itoa(i) + `":"v"`)
	}
	tests := map[string][]byte{
		"empty":                  {},
		"three bytes":            {0, 0, 0},
		"header past the frame":  {0, 0, 0, 9, '{', '}'},
		"header over its cap":    jsonFrame(`{"remark":"` + strings.Repeat("x", MaxHeader) + `"}`),
		"codec 2":                append([]byte{2, 0, 0, 2}, "{}"...),
		"no object":              jsonFrame(`[]`),
		"empty header":           jsonFrame(``),
		"second value":           jsonFrame(`{}{}`),
		"unclosed":               jsonFrame(`{"code":1`),
		"comma at the end":       jsonFrame(`{"code":1,}`),
		"bare word":              jsonFrame(`{"code":yes}`),
		"code out of range":      jsonFrame(`{"code":2147483648}`),
		"code no number":         jsonFrame(`{"code":"x"}`),
		"code an object":         jsonFrame(`{"code":{}}`),
		"ext a number":           jsonFrame(`{"extFields":3}`),
		"ext an array":           jsonFrame(`{"extFields":["a"]}`),
		"ext value an object":    jsonFrame(`{"extFields":{"a":{}}}`),
		"unfinished escape":      jsonFrame(`{"remark":"\`),
		"bad unicode escape":     jsonFrame(`{"remark":"\u12g4"}`),
		"unknown escape":         jsonFrame(`{"remark":"\x"}`),
		"deep unknown member":    jsonFrame(`{"x":` + deep + `}`),
		"too many ext":           jsonFrame(`{"extFields":{` + many.String()[1:] + `}}`),
		"binary too short":       {1, 0, 0, 5, 0, 0, 0, 0, 0},
		"binary without lengths": append([]byte{1, 0, 0, 13}, make([]byte, 13)...),
		"binary remark too long": append(append([]byte{1, 0, 0, 21}, make([]byte, 13)...), 0, 0, 0, 5, 0, 0, 0, 0),
		"binary remark negative": append(append([]byte{1, 0, 0, 21}, make([]byte, 13)...), 255, 255, 255, 255, 0, 0, 0, 0),
		"binary ext too long":    append(append([]byte{1, 0, 0, 21}, make([]byte, 13)...), 0, 0, 0, 0, 0, 0, 0, 1),
		"binary key negative":    append(append([]byte{1, 0, 0, 23}, make([]byte, 13)...), 0, 0, 0, 0, 0, 0, 0, 2, 255, 255),
		"binary value missing":   append(append([]byte{1, 0, 0, 24}, make([]byte, 13)...), 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 'k'),
	}
	for name, frame := range tests {
		var c Command
		if err := DecodeFrame(frame, &c); err == nil {
			t.Errorf("%s: read %+v", name, c)
		}
	}
	var c Command
	if err := DecodeFrame(make([]byte, MaxFrame-3), &c); !errors.Is(err, ErrFrameSize) {
		t.Errorf("frame over the limit: %v", err)
	}
}

// A header cut off anywhere is an error, never a shorter header.
func TestTruncatedHeadersAreRefused(t *testing.T) {
	for codec, golden := range goldenFrames(t) {
		header := golden[8 : len(golden)-2]
		for n := range header {
			frame := binary.BigEndian.AppendUint32(nil, uint32(codec)<<24|uint32(n))
			var c Command
			if err := DecodeFrame(append(frame, header[:n]...), &c); err == nil {
				t.Errorf("codec %d cut to %d bytes: read %+v", codec, n, c)
			}
		}
	}
}

func TestBinaryCodecGivesWideRequestCodesBack(t *testing.T) {
	wide := 0
	for _, code := range allRequestCodes() {
		c := NewRequest(code, nil)
		c.Codec = CodecBinary
		var back Command
		if err := DecodeFrame(encode(t, c)[4:], &back); err != nil || back.Code != code {
			t.Errorf("code %d came back as %d, %v", code, back.Code, err)
		}
		if code > 32767 {
			wide++
		}
	}
	if wide != 8 {
		t.Errorf("%d codes above 32767, want 8", wide)
	}
	golden := map[int16]int32{3442: PopMessage, 3443: AckMessage, 3444: PeekMessage, 3445: ChangeMessageInvisibletime,
		3446: Notification, 3447: PollingInfo, 3448: PopRollback, 3543: BatchAckMessage}
	for short, code := range golden {
		if got := wideRequestCode(short); got != code {
			t.Errorf("%d means %d, want %d", short, got, code)
		}
	}
	response := &Command{Code: 3442, Flag: flagResponse, Codec: CodecBinary}
	var back Command
	if err := DecodeFrame(encode(t, response)[4:], &back); err != nil || back.Code != 3442 {
		t.Errorf("response code 3442 came back as %d, %v", back.Code, err)
	}
}

func TestWhatCannotBeWritten(t *testing.T) {
	tests := map[string]*Command{
		"codec":          {Codec: 7},
		"ext count":      {Ext: make(Fields, MaxExt+1)},
		"header size":    {Remark: strings.Repeat("x", MaxHeader)},
		"frame size":     {Body: make([]byte, MaxFrame-40)},
		"binary code":    {Codec: CodecBinary, Code: 40000},
		"binary answer":  {Codec: CodecBinary, Code: 200050, Flag: flagResponse},
		"binary version": {Codec: CodecBinary, Version: 1 << 20},
		"binary key":     {Codec: CodecBinary, Ext: Fields{{strings.Repeat("k", 40000), ""}}},
	}
	for name, c := range tests {
		dst := []byte("before")
		got, err := AppendFrameHead(dst, c)
		if err == nil || string(got) != "before" {
			t.Errorf("%s: wrote %d bytes, error %v", name, len(got)-len(dst), err)
		}
	}
}

func TestFramesMayBeLargestAllowed(t *testing.T) {
	c := &Command{Codec: CodecBinary, Body: make([]byte, MaxFrame-8-21)}
	frame := encode(t, c)
	if len(frame) != MaxFrame {
		t.Fatalf("frame of %d bytes", len(frame))
	}
	var back Command
	if err := DecodeFrame(frame[4:], &back); err != nil || len(back.Body) != len(c.Body) {
		t.Errorf("read a body of %d bytes, %v", len(back.Body), err)
	}
}

func TestNewResponseMirrorsTheRequest(t *testing.T) {
	for _, codec := range []Codec{CodecJSON, CodecBinary} {
		req := &Command{Code: SendMessage, Opaque: 42, Codec: codec, Flag: 0, Language: LanguageGo, Version: 317}
		resp := NewResponse(req, TopicNotExist, "no topic")
		if resp.Opaque != 42 || resp.Codec != codec || !resp.IsResponse() || resp.IsOneway() || resp.Version != MQVersion ||
			resp.Code != 17 || resp.Remark != "no topic" || resp.Ext == nil {
			t.Errorf("answer %+v", resp)
		}
	}
}

func TestFieldsLastOneCounts(t *testing.T) {
	f := Fields{{"a", "1"}, {"b", "2"}, {"a", "3"}}
	if v, _ := f.Get("a"); v != "3" {
		t.Errorf("a is %q", v)
	}
	f.Set("a", "4")
	if v, _ := f.Get("a"); v != "4" || len(f) != 3 {
		t.Errorf("a is %q in %v", v, f)
	}
	f.Set("c", "5")
	if v, ok := f.Get("c"); v != "5" || !ok || len(f) != 4 {
		t.Errorf("c is %q in %v", v, f)
	}
	if _, ok := f.Get("d"); ok {
		t.Error("d is there")
	}
}

// sendFrame is a send request as Java and Go clients write it.
func sendFrame(t testing.TB, codec Codec) []byte {
	h := SendMessageRequestHeaderV2{
		ProducerGroup: "bench-producer", Topic: "BenchTopic", DefaultTopic: "TBW102", DefaultTopicQueueNums: 8, QueueID: 3,
		BornTimestamp: 1795350449165,
		Properties:    "KEYS\x01order-17\x02UNIQ_KEY\x01FD00000000000000000000000000000275ACF5FFD2B276EDEDE940064\x02WAIT\x01true\x02TAGS\x01TagA\x02",
	}
	c := NewRequest(SendMessageV2, &h)
	c.Opaque, c.Codec, c.Body = 123456, codec, make([]byte, 1024)
	return encode(t, c)
}

func sendResponse(codec Codec) *Command {
	h := SendMessageResponseHeader{MsgID: "7F00000100002A9F0000000000000003", QueueID: 3, QueueOffset: 123456789, MsgRegion: "DefaultRegion", TraceOn: "true"}
	c := NewResponse(&Command{Opaque: 123456, Codec: codec}, Success, "")
	c.Ext = h.AppendFields(c.Ext)
	return c
}

// The send path lives on these: one allocation for the text of a header and one for a value with escapes (in JSON the
// properties always have some), none for writing a header.
func TestHotPathAllocations(t *testing.T) {
	for codec, allowed := range map[Codec]float64{CodecJSON: 2, CodecBinary: 1} {
		frame := sendFrame(t, codec)[4:]
		var c Command
		var h SendMessageRequestHeaderV2
		if n := testing.AllocsPerRun(100, func() {
			if DecodeFrame(frame, &c) != nil || h.Decode(c.Ext) != nil {
				t.Fatal("cannot read")
			}
		}); n > allowed {
			t.Errorf("codec %d: reading a send takes %v allocations, want %v", codec, n, allowed)
		}
		resp := sendResponse(codec)
		buf := make([]byte, 0, 1024)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := AppendFrameHead(buf, resp); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("codec %d: writing an answer takes %v allocations, want 0", codec, n)
		}
		header := SendMessageResponseHeader{MsgID: "id", QueueID: 3, QueueOffset: 123456789}
		fields := make(Fields, 0, 16)
		if n := testing.AllocsPerRun(100, func() { fields = header.AppendFields(fields[:0]) }); n > 1 {
			t.Errorf("fields of an answer take %v allocations, want 1", n)
		}
	}
}

func BenchmarkDecodeSend(b *testing.B) {
	for name, codec := range map[string]Codec{"json": CodecJSON, "binary": CodecBinary} {
		b.Run(name, func(b *testing.B) {
			frame := sendFrame(b, codec)[4:]
			var c Command
			var h SendMessageRequestHeaderV2
			b.ReportAllocs()
			for b.Loop() {
				if DecodeFrame(frame, &c) != nil || h.Decode(c.Ext) != nil {
					b.Fatal("cannot read")
				}
			}
		})
	}
}

func BenchmarkEncodeSendResponse(b *testing.B) {
	for name, codec := range map[string]Codec{"json": CodecJSON, "binary": CodecBinary} {
		b.Run(name, func(b *testing.B) {
			header := SendMessageResponseHeader{MsgID: "7F00000100002A9F0000000000000003", QueueID: 3, QueueOffset: 123456789, MsgRegion: "DefaultRegion", TraceOn: "true"}
			c := NewResponse(&Command{Opaque: 123456, Codec: codec}, Success, "")
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				c.Ext = header.AppendFields(c.Ext[:0])
				if _, err := AppendFrameHead(buf, c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendString(b *testing.B) {
	text := strings.Repeat("plain text, ", 20) + "\x01\x02"
	buf := make([]byte, 0, 1024)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		buf = fastjson.AppendString(buf[:0], text)
	}
}

func TestMarkOneway(t *testing.T) {
	c := NewRequest(NotifyConsumerIdsChanged, &NotifyConsumerIdsChangedRequestHeader{ConsumerGroup: "g"})
	if c.IsOneway() {
		t.Error("a new request is oneway")
	}
	c.MarkOneway()
	if !c.IsOneway() || c.IsResponse() {
		t.Errorf("flag %d", c.Flag)
	}
}
