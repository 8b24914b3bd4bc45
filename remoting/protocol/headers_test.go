package protocol

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// decodableHeader is what every generated header is.
type decodableHeader interface {
	Header
	Decode(Fields) error
}

// fill gives every field of a struct a value that is not its zero value, with its number in it.
func fill(v reflect.Value, n *int) {
	for i := range v.NumField() {
		*n++
		f := v.Field(i)
		switch f.Kind() {
		case reflect.String:
			f.SetString("value " + string(rune('a'+*n%26)) + "\x01\"é")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int32:
			f.SetInt(math.MinInt32 + int64(*n))
		case reflect.Int64:
			f.SetInt(math.MaxInt64 - int64(*n))
		case reflect.Struct:
			fill(f, n)
		}
	}
}

// Every header comes back from its fields, through both codecs, whether it is full or empty.
func TestHeadersRoundTrip(t *testing.T) {
	for name, h := range allHeaders() {
		full := reflect.New(reflect.TypeOf(h).Elem())
		n := 0
		fill(full.Elem(), &n)
		empty := reflect.New(reflect.TypeOf(h).Elem())
		for _, in := range []reflect.Value{full, empty} {
			for _, codec := range []Codec{CodecJSON, CodecBinary} {
				c := NewRequest(1, in.Interface().(Header))
				c.Codec = codec
				var back Command
				if err := DecodeFrame(encode(t, c)[4:], &back); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				err := h.Decode(back.Ext)
				if err != nil || !reflect.DeepEqual(h, in.Interface()) {
					t.Errorf("%s, codec %d: read %+v, %v\nwant %+v", name, codec, h, err, in.Interface())
				}
			}
		}
	}
}

// Each required field is missed by name, and each number and boolean is checked by name.
func TestHeadersNameTheBadField(t *testing.T) {
	for name, h := range allHeaders() {
		full := reflect.New(reflect.TypeOf(h).Elem())
		n := 0
		fill(full.Elem(), &n)
		fields := full.Interface().(Header).AppendFields(nil)
		required := 0
		for i := range fields {
			less := append(append(Fields{}, fields[:i]...), fields[i+1:]...)
			err := h.Decode(less)
			var field *FieldError
			if err != nil {
				required++
				if !errors.As(err, &field) || !field.Missing || field.Field != fields[i].Key || field.Header != name {
					t.Errorf("%s without %s: %v", name, fields[i].Key, err)
				}
			}
			if fields[i].Value != "true" && !strings.ContainsAny(fields[i].Value[:1], "-0123456789") {
				continue
			}
			bad := append(Fields{}, fields...)
			bad[i].Value = strings.Repeat("x", 1000)
			err = h.Decode(bad)
			if !errors.As(err, &field) || field.Missing || field.Field != fields[i].Key || !strings.HasPrefix(field.Value, "xxx") || len(field.Value) > 64 {
				t.Errorf("%s with a bad %s: %v", name, fields[i].Key, err)
			}
		}
		if h.Decode(nil) == nil && required > 0 {
			t.Errorf("%s is read from nothing", name)
		}
	}
}

func TestFieldErrorWording(t *testing.T) {
	var h GetMaxOffsetRequestHeader
	for want, fields := range map[string]Fields{
		"GetMaxOffsetRequestHeader: topic is missing, want text":              {{"queueId", "1"}},
		"GetMaxOffsetRequestHeader: queueId is missing, want an int32":        {{"topic", "T"}},
		`GetMaxOffsetRequestHeader: queueId is "x", want an int32`:            {{"topic", "T"}, {"queueId", "x"}},
		`GetMaxOffsetRequestHeader: queueId is "2147483648", want an int32`:   {{"topic", "T"}, {"queueId", "2147483648"}},
		`GetMaxOffsetRequestHeader: committed is "maybe", want true or false`: {{"topic", "T"}, {"queueId", "1"}, {"committed", "maybe"}},
	} {
		if err := h.Decode(fields); err == nil || err.Error() != want {
			t.Errorf("%v: %v, want %s", fields, err, want)
		}
	}
	var search SearchOffsetRequestHeader
	err := search.Decode(Fields{{"topic", "T"}, {"queueId", "1"}, {"timestamp", "1e3"}})
	if want := `SearchOffsetRequestHeader: timestamp is "1e3", want an int64`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestDefaultsOfAbsentFields(t *testing.T) {
	var max GetMaxOffsetRequestHeader
	if err := max.Decode(Fields{{"topic", "T"}, {"queueId", "1"}}); err != nil || !max.Committed {
		t.Errorf("committed is %t, %v", max.Committed, err)
	}
	var offset QueryConsumerOffsetRequestHeader
	if err := offset.Decode(Fields{{"consumerGroup", "g"}, {"topic", "T"}, {"queueId", "1"}}); err != nil || !offset.SetZeroIfNotFound {
		t.Errorf("setZeroIfNotFound is %t, %v", offset.SetZeroIfNotFound, err)
	}
	var reset ResetOffsetRequestHeader
	if err := reset.Decode(Fields{{"topic", "T"}, {"group", "g"}, {"timestamp", "-1"}, {"isForce", "TRUE"}}); err != nil ||
		reset.QueueID != -1 || reset.HasOffset || reset.Timestamp != -1 || !reset.Force {
		t.Errorf("%+v, %v", reset, err)
	}
	// An empty number is one that is not there: the binary codec knows no difference.
	if err := reset.Decode(Fields{{"topic", ""}, {"group", ""}, {"timestamp", "1"}, {"isForce", "0"}, {"offset", ""}}); err != nil || reset.HasOffset || reset.Force {
		t.Errorf("%+v, %v", reset, err)
	}
	if err := reset.Decode(Fields{{"topic", ""}, {"group", ""}, {"timestamp", ""}, {"isForce", "1"}}); err == nil {
		t.Error("empty timestamp is there")
	}
}

// The headers of every recorded request, and of every recorded success, are read and written again.
func TestVectorHeaders(t *testing.T) {
	seen := map[string]bool{}
	check := func(i int, kind map[int32]string, f *vectorFrame, code int32) {
		name := kind[code]
		if name == "" {
			return
		}
		seen[name] = true
		var c Command
		if err := DecodeFrame(f.Frame[4:], &c); err != nil {
			t.Fatal(err)
		}
		h := allHeaders()[name]
		if err := h.Decode(c.Ext); err != nil {
			t.Errorf("vector %d: %v", i, err)
			return
		}
		again := allHeaders()[name]
		if err := again.Decode(h.AppendFields(nil)); err != nil || !reflect.DeepEqual(again, h) {
			t.Errorf("vector %d: %+v became %+v, %v", i, h, again, err)
		}
		for _, field := range h.AppendFields(nil) { // what is written is what was there
			if was, ok := c.Ext.Get(field.Key); ok && was != field.Value {
				t.Errorf("vector %d: %s of %q is written as %q", i, field.Key, was, field.Value)
			}
		}
	}
	for i, v := range readVectors(t) {
		check(i, requestHeaders(), v.Request, v.Code)
		if v.Response != nil && v.Response.Header.Code == Success && v.Code != HeartBeat && v.Code != GetAllTopicConfig && v.Code != GetAllSubscriptiongroupConfig {
			check(i, responseHeaders(), v.Response, v.Code)
		}
	}
	if len(seen) < 40 {
		t.Errorf("vectors show %d kinds of header, want at least 40", len(seen))
	}
}

// The two send headers are one struct twice, so that one handler serves both.
func TestSendHeadersConvert(t *testing.T) {
	v2 := SendMessageRequestHeaderV2{ProducerGroup: "g", Topic: "T", BornTimestamp: 5, Batch: true, HasMaxReconsumeTimes: true, MaxReconsumeTimes: 16}
	v2.BrokerName = "b-a"
	v1 := SendMessageRequestHeader(v2)
	var fromV1 SendMessageRequestHeader
	if err := fromV1.Decode(v1.AppendFields(nil)); err != nil || fromV1 != v1 {
		t.Errorf("%+v became %+v, %v", v1, fromV1, err)
	}
	fields := v2.AppendFields(nil)
	if n, _ := fields.Get("n"); n != "b-a" {
		t.Errorf("n is %q", n)
	}
	var fromV2 SendMessageRequestHeaderV2
	if err := fromV2.Decode(fields); err != nil || fromV2 != v2 {
		t.Errorf("%+v became %+v, %v", v2, fromV2, err)
	}
}

func TestCodeNames(t *testing.T) {
	if RequestName(310) != "SEND_MESSAGE_V2" || RequestName(-1) != "" || ResponseName(17) != "TOPIC_NOT_EXIST" || ResponseName(999) != "" {
		t.Errorf("%q %q %q %q", RequestName(310), RequestName(-1), ResponseName(17), ResponseName(999))
	}
	if n := len(allRequestCodes()); n != 158+5+6 {
		t.Errorf("%d request codes, want 158, the 5 legacy ones and the 6 of rmq itself", n)
	}
}

func TestLanguages(t *testing.T) {
	for l := LanguageJava; l < languageCount; l++ {
		if got := languageByName(strings.ToLower(l.String())); got != l {
			t.Errorf("%s came back as %s", l, got)
		}
		if got := languageByOrdinal(int64(l)); got != l {
			t.Errorf("%d came back as %d", l, got)
		}
	}
	if languageByName("?") != LanguageOther || languageByOrdinal(-1) != LanguageOther || languageByOrdinal(14) != LanguageOther || Language(99).String() != "OTHER" {
		t.Error("unknown languages are not OTHER")
	}
}
