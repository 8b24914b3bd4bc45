package protocol

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"testing"
	"unicode/utf8"
)

// sameCommand compares what travels; nil and empty ext fields count as the same.
func sameCommand(a, b *Command) bool {
	return a.Code == b.Code && a.Language == b.Language && a.Version == b.Version && a.Opaque == b.Opaque && a.Flag == b.Flag &&
		a.Remark == b.Remark && a.Codec == b.Codec && slices.Equal(a.Ext, b.Ext) && string(a.Body) == string(b.Body)
}

// again checks that what was read is written and read again as the same, if it can be written at all: escapes may
// take a JSON header over its cap.
func again(t *testing.T, c *Command) {
	head, err := AppendFrameHead(nil, c)
	if err != nil {
		return
	}
	var back Command
	if err := DecodeFrame(append(head, c.Body...)[4:], &back); err != nil {
		t.Fatalf("wrote %q, which cannot be read: %v", head, err)
	}
	if !sameCommand(c, &back) {
		t.Fatalf("%+v became %+v", c, back)
	}
}

// FuzzFrameReader feeds DecodeFrame any bytes.
func FuzzFrameReader(f *testing.F) {
	for _, frame := range vectorFrames(f) {
		f.Add(frame.Frame[4:])
	}
	for _, frame := range goldenFrames(f) {
		f.Add(frame[4:])
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := string(frame)
		c := Command{Ext: Fields{{"left", "over"}}}
		err := DecodeFrame(frame, &c)
		if string(frame) != before {
			t.Fatal("frame was changed")
		}
		if err == nil {
			again(t, &c)
		}
	})
}

// FuzzHeaderJSON checks that every header the standard library reads is read as the same.
func FuzzHeaderJSON(f *testing.F) {
	for _, frame := range vectorFrames(f) {
		if frame.SerializeType == CodecJSON {
			f.Add(frame.Frame[8 : len(frame.Frame)-frame.BodyLen])
		}
	}
	f.Add([]byte(`{"code":"10","language":9,"remark":null,"extFields":{"a":1,"b":true,"c":null,"d":"\ud83d\ude00\u0001"},"x":[{}]}`))
	f.Fuzz(func(t *testing.T, header []byte) {
		var c Command
		err := DecodeFrame(jsonFrame(string(header)), &c)
		if err == nil {
			again(t, &c)
		}
		std, ok := standardHeader(header)
		if !ok {
			return
		}
		if err != nil {
			t.Fatalf("refused %s: %v", header, err)
		}
		got := map[string]string{}
		for _, field := range c.Ext {
			got[field.Key] = field.Value
		}
		if c.Code != std.Code || c.Opaque != std.Opaque || c.Flag != std.Flag || c.Version != std.Version || c.Remark != std.Remark ||
			!maps.Equal(got, std.ExtFields) {
			t.Fatalf("%s\nread as %+v\nwant %+v", header, c, std)
		}
	})
}

type standard struct {
	Code, Opaque, Flag, Version int32
	Remark                      string
	ExtFields                   map[string]string
}

// standardHeader reads a header with the standard library. It fails for what that library reads another way: member
// names in other case, repeated members, text that is not UTF-8, null values; and for what our caps refuse.
func standardHeader(header []byte) (standard, bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(header, &members) != nil || members == nil || !utf8.Valid(header) || len(header) > 1000 {
		return standard{}, false
	}
	strict := map[string]json.RawMessage{}
	for _, name := range []string{"code", "opaque", "flag", "version", "remark", "extFields"} {
		if value, ok := members[name]; ok {
			strict[name] = value
		}
	}
	for name, value := range members {
		if _, known := strict[name]; !known {
			if value[0] == '{' || value[0] == '[' { // depth and looser syntax are other tests' business
				return standard{}, false
			}
		}
	}
	text, err := json.Marshal(strict)
	if err != nil {
		return standard{}, false
	}
	var s standard
	if json.Unmarshal(text, &s) != nil {
		return standard{}, false
	}
	var ext map[string]*string
	if raw := strict["extFields"]; raw != nil && json.Unmarshal(raw, &ext) != nil {
		return standard{}, false
	}
	for _, value := range ext {
		if value == nil {
			return standard{}, false
		}
	}
	if countMembers(header) != len(members)+len(ext) {
		return standard{}, false
	}
	return s, true
}

// countMembers counts the members of the outer object and of extFields, repeated ones each time.
func countMembers(header []byte) int {
	n := 0
	var walk func(raw json.RawMessage, ext bool)
	walk = func(raw json.RawMessage, ext bool) {
		dec := json.NewDecoder(bytes.NewReader(raw))
		if token, err := dec.Token(); err != nil || token != json.Delim('{') {
			return
		}
		for dec.More() {
			name, _ := dec.Token()
			var value json.RawMessage
			if dec.Decode(&value) != nil {
				return
			}
			n++
			if !ext && name == "extFields" {
				walk(value, true)
			}
		}
	}
	walk(header, false)
	return n
}

// FuzzHeaderBinary feeds the binary codec any header, with a body behind it.
func FuzzHeaderBinary(f *testing.F) {
	for _, frame := range vectorFrames(f) {
		if frame.SerializeType == CodecBinary {
			f.Add(frame.Frame[8:len(frame.Frame)-frame.BodyLen], []byte("body"))
		}
	}
	f.Fuzz(func(t *testing.T, header, body []byte) {
		if len(header) > MaxHeader {
			return
		}
		frame := append([]byte{1, byte(len(header) >> 16), byte(len(header) >> 8), byte(len(header))}, header...)
		var c Command
		if DecodeFrame(append(frame, body...), &c) != nil {
			return
		}
		if string(c.Body) != string(body) {
			t.Fatalf("body %q became %q", body, c.Body)
		}
		head, err := AppendFrameHead(nil, &c)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", c, err)
		}
		if len(head)-8 > len(header) {
			t.Fatalf("header of %d bytes became %d bytes", len(header), len(head)-8)
		}
		again(t, &c)
	})
}

// FuzzHeaderRoundTrip writes and reads every kind of header with any values, under every code, in both codecs.
func FuzzHeaderRoundTrip(f *testing.F) {
	f.Add(uint16(0), "topic", "", int64(1), int64(-1), true)
	f.Add(uint16(7), "%RETRY%g", "KEYS\x01a\x02", int64(1795350449165), int64(1<<62), false)
	f.Add(uint16(700), "é\u2028\"\\\x7f", "\xff", int64(-1<<63), int64(0), true)
	names := slices.Sorted(maps.Keys(allHeaders()))
	codes := allRequestCodes()
	f.Fuzz(func(t *testing.T, pick uint16, a, b string, m, n int64, flag bool) {
		if len(a)+len(b) > 4096 {
			return
		}
		in := allHeaders()[names[int(pick)%len(names)]]
		values := fuzzValues{text: []string{a, b}, number: []int64{m, n}, flag: flag}
		values.fill(reflect.ValueOf(in).Elem())
		for _, codec := range []Codec{CodecJSON, CodecBinary} {
			c := NewRequest(codes[int(pick)%len(codes)], in)
			c.Codec, c.Remark = codec, b
			head, err := AppendFrameHead(nil, c)
			if err != nil {
				continue
			}
			var back Command
			if err := DecodeFrame(head[4:], &back); err != nil || !sameCommand(c, &back) {
				t.Fatalf("%+v became %+v, %v", c, back, err)
			}
			out := allHeaders()[names[int(pick)%len(names)]]
			if err := out.Decode(back.Ext); err != nil || !reflect.DeepEqual(in, out) {
				t.Fatalf("%+v became %+v, %v", in, out, err)
			}
		}
	})
}

// fuzzValues fills structs with values taken in turn.
type fuzzValues struct {
	text   []string
	number []int64
	flag   bool
	next   int
}

func (v *fuzzValues) fill(s reflect.Value) {
	for i := range s.NumField() {
		v.next++
		has := s.FieldByName("Has" + s.Type().Field(i).Name)
		if has.IsValid() && !v.flag {
			continue // a value without its flag does not travel
		}
		switch f := s.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(v.text[v.next%len(v.text)])
		case reflect.Bool:
			f.SetBool(v.flag)
		case reflect.Int32:
			f.SetInt(int64(int32(v.number[v.next%len(v.number)])))
		case reflect.Int64:
			f.SetInt(v.number[v.next%len(v.number)])
		case reflect.Struct:
			v.fill(f)
		}
	}
}
