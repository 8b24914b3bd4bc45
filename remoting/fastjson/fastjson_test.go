package fastjson

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

type queue struct {
	Topic  string `json:"topic"`
	Broker string `json:"brokerName"`
	ID     int32  `json:"queueId"`
}

type sample struct {
	Name    string             `json:"name"`
	Note    string             `json:"note,omitempty"`
	On      bool               `json:"on" alias:"isOn,enabled"`
	Small   int32              `json:"small"`
	Big     int64              `json:"big"`
	Rate    float64            `json:"rate"`
	Kind    string             `json:"kind" enum:"ALPHA,BETA_2"`
	Blob    []byte             `json:"blob,omitempty"`
	List    []string           `json:"list"`
	Some    []string           `json:"some,omitempty"`
	Table   map[string]int64   `json:"table"`
	ByID    map[int64]string   `json:"byId,omitempty"`
	ByQueue map[queue]int64    `json:"byQueue,omitempty"`
	Nested  *sample            `json:"nested"`
	Raw     Raw                `json:"raw"`
	Deep    map[string][]queue `json:"deep,omitempty"`
	Skipped int
}

type withDefaults struct {
	Times int32  `json:"times"`
	Mode  string `json:"mode"`
	Flag  bool   `json:"flag"`
}

func (w *withDefaults) SetDefaults() { *w = withDefaults{Times: 16, Mode: "PULL", Flag: true} }

type embedding struct {
	queue
	Outer string `json:"outer"`
}

func TestMarshal(t *testing.T) {
	tests := []struct {
		in   any
		want string
	}{
		{sample{}, `{"big":0,"list":[],"name":"","on":false,"rate":0.0,"small":0,"table":{}}`},
		{&sample{Name: "é\x01\"", Kind: "ALPHA", Note: "n", Blob: []byte{5, 2}, Some: []string{"a"}, Nested: &sample{}},
			`{"big":0,"blob":"BQI=","kind":"ALPHA","list":[],"name":"é\u0001\"","nested":{"big":0,"list":[],"name":"","on":false,"rate":0.0,"small":0,"table":{}},"note":"n","on":false,"rate":0.0,"small":0,"some":["a"],"table":{}}`},
		{sample{Kind: "GAMMA", Raw: Raw(`{0:1}`)}, `{"big":0,"list":[],"name":"","on":false,"rate":0.0,"raw":{0:1},"small":0,"table":{}}`},
		{map[queue]int64{{"T", "b-a", 10}: 1, {"T", "b-a", 2}: 7, {"S", "b-b", 3}: 4},
			`{{"brokerName":"b-b","queueId":3,"topic":"S"}:4,{"brokerName":"b-a","queueId":2,"topic":"T"}:7,{"brokerName":"b-a","queueId":10,"topic":"T"}:1}`},
		{map[int64]string{1: "b", 0: "a", 10: "c"}, `{"0":"a","1":"b","10":"c"}`},
		{map[string][]int32{"b": nil, "a": {1, -2}}, `{"a":[1,-2],"b":[]}`},
		{embedding{queue: queue{"T", "b", 1}, Outer: "o"}, `{"brokerName":"b","outer":"o","queueId":1,"topic":"T"}`},
		{[]any{nil, (*int)(nil), Raw(nil), "x"}, `[null,null,null,"x"]`},
		{nil, `null`},
	}
	for _, test := range tests {
		got, err := Marshal(test.in)
		if err != nil || string(got) != test.want {
			t.Errorf("%+v:\n got %s, %v\nwant %s", test.in, got, err, test.want)
		}
	}
	got, err := MarshalLegacy(map[string]map[int64]string{"m": {10: "b", 0: "a"}})
	if want := `{"m":{0:"a",10:"b"}}`; err != nil || string(got) != want {
		t.Errorf("legacy %s, %v, want %s", got, err, want)
	}
}

// What Java's Double.toString gave for the same numbers.
func TestDoublesAreJavas(t *testing.T) {
	for want, f := range map[string]float64{
		"0.0": 0, "1.0": 1, "1.9": 1.9, "0.001": 0.001, "9.0E-4": 0.0009, "1.0E7": 1e7, "9999999.0": 9999999,
		"1.23456789E7": 12345678.9, "1.0E10": 1e10, "1.234E-5": 1.234e-5, "2.033333333333333": 2.033333333333333,
		"1.8666666666666667": 1.8666666666666667, "1.0E100": 1e100, "123456.789": 123456.789,
		"1.7976931348623157E308": 1.7976931348623157e308, "0.002": 2e-3, "1.0E23": 1e23, "-4.35": -4.35, "100.0": 100,
	} {
		if got := string(appendDouble(nil, f)); got != want {
			t.Errorf("%v became %s, want %s", f, got, want)
		}
	}
	zero := 0.0
	for _, f := range []float64{1 / zero, -1 / zero, zero / zero} {
		if got := string(appendDouble(nil, f)); got != "null" {
			t.Errorf("%v became %s", f, got)
		}
	}
}

func TestMarshalRefuses(t *testing.T) {
	type endless struct {
		Next *endless `json:"next"`
	}
	loop := &endless{}
	loop.Next = loop
	for name, v := range map[string]any{
		"channel":   make(chan int),
		"bool keys": map[bool]int{true: 1},
		"loop":      loop,
		"twice":     struct{ A, B int }{},
		"same names": struct {
			A int `json:"x"`
			B int `json:"y" alias:"x"`
		}{},
	} {
		out, err := Marshal(v)
		if name == "twice" { // fields without a tag take no part
			if err != nil || string(out) != "{}" {
				t.Errorf("%s: %s, %v", name, out, err)
			}
		} else if err == nil {
			t.Errorf("%s: wrote %s", name, out)
		}
	}
}

func TestUnmarshalIsLenient(t *testing.T) {
	tests := []struct {
		text string
		want sample
	}{
		{`{}`, sample{}},
		{" {\n\"name\" : \"x\" ,\t\"small\":\r-3 } ", sample{Name: "x", Small: -3}},
		{`{"unknown":{"a":[1,2,{"b":null}],"c":{{"x":1}:2,3:4}},"name":"x"}`, sample{Name: "x"}},
		{`{"name":null,"list":null,"nested":null,"small":null,"raw":null,"table":null}`, sample{}},
		{`{"name":7,"small":"7","big":"-8","rate":"1.5","on":"TRUE"}`, sample{Name: "7", Small: 7, Big: -8, Rate: 1.5, On: true}},
		{`{"small":7.0,"big":5e3,"rate":2,"on":1}`, sample{Small: 7, Big: 5000, Rate: 2, On: true}},
		{`{"isOn":true}`, sample{On: true}},
		{`{"enabled":true,"on":false}`, sample{}},
		{`{"kind":"beta_2"}`, sample{Kind: "BETA_2"}},
		{`{"kind":1}`, sample{Kind: "BETA_2"}},
		{`{"kind":"0"}`, sample{Kind: "ALPHA"}},
		{`{"kind":"other"}`, sample{}},
		{`{"kind":9}`, sample{}},
		{`{"blob":"BQI="}`, sample{Blob: []byte{5, 2}}},
		{`{"byId":{0:"a","1":"b", -2 : "c"}}`, sample{ByID: map[int64]string{0: "a", 1: "b", -2: "c"}}},
		{`{"byQueue":{{"brokerName":"b","queueId":1,"topic":"T"}:5, { "topic" : "T" , "queueId":"2","brokerName":"b"} : 6}}`,
			sample{ByQueue: map[queue]int64{{"T", "b", 1}: 5, {"T", "b", 2}: 6}}},
		{`{"byQueue":{"{\"brokerName\":\"b\",\"queueId\":1,\"topic\":\"T\"}":5}}`, sample{ByQueue: map[queue]int64{{"T", "b", 1}: 5}}},
		{`{"raw": {0 : [ 1 ]} ,"name":"x"}`, sample{Raw: Raw(`{0 : [ 1 ]}`), Name: "x"}},
		{`{"table":{"$ref":1}}`, sample{Table: map[string]int64{"$ref": 1}}},
		{`{"list":["a",null,"\u00e9"]}`, sample{List: []string{"a", "", "é"}}},
		{`{"name":"a","name":"b"}`, sample{Name: "b"}},
		{`{1:2,{"a":1}:3,"name":"x"}`, sample{Name: "x"}},
		{`null`, sample{}},
	}
	for _, test := range tests {
		var got sample
		if err := Unmarshal([]byte(test.text), &got); err != nil {
			t.Errorf("%s: %v", test.text, err)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s:\n got %+v\nwant %+v", test.text, got, test.want)
		}
	}
}

func TestAbsentMembersKeepTheirDefault(t *testing.T) {
	var table map[string]*withDefaults
	if err := Unmarshal([]byte(`{"a":{},"b":{"times":3,"flag":false,"mode":null}}`), &table); err != nil {
		t.Fatal(err)
	}
	if *table["a"] != (withDefaults{16, "PULL", true}) || *table["b"] != (withDefaults{3, "PULL", false}) {
		t.Errorf("read %+v and %+v", table["a"], table["b"])
	}
}

// References as fastjson writes them for values that occur twice.
func TestReferences(t *testing.T) {
	type body struct {
		Tables map[string]map[queue]int64 `json:"consumerTable"`
		Last   map[queue]int64            `json:"messageQueueTable"`
		Lists  []sample                   `json:"lists"`
	}
	const table = `{{"brokerName":"b-a","queueId":0,"topic":"T"}:7}`
	want := map[queue]int64{{"T", "b-a", 0}: 7}
	tests := map[string]func(b *body) bool{
		`{"consumerTable":{"zz":` + table + `,"192.168.1.2@12":{"$ref":"$.consumerTable.zz"}},"messageQueueTable":{"$ref":"$.consumerTable.zz"}}`: func(b *body) bool {
			return reflect.DeepEqual(b.Last, want) && reflect.DeepEqual(b.Tables["192.168.1.2@12"], want)
		},
		`{"consumerTable":{"1.2@3 #é\"\\[7]":` + table + `},"messageQueueTable":{"$ref":"$.consumerTable.1\\.2\\@3\\ \\#é\\\"\\\\\\[7\\]"}}`: func(b *body) bool { return reflect.DeepEqual(b.Last, want) },
		`{"messageQueueTable":{ "$ref" : "$.consumerTable.x" },"consumerTable":{"x":` + table + `}}`:                                         func(b *body) bool { return reflect.DeepEqual(b.Last, want) },
		`{"lists":[{"name":"a","nested":{"name":"b"}},{"name":"c","nested":{"$ref":"$.lists[0].nested"}}]}`:                                  func(b *body) bool { return b.Lists[1].Nested.Name == "b" },
		`{"lists":[{"name":"a"},{"$ref":"$.lists[0]"}]}`:                                                                                     func(b *body) bool { return b.Lists[1].Name == "a" },
		`{"lists":[{"$ref":"$.lists[9]"},{"$ref":"$.nothing.at.all"},{"$ref":".."},{"$ref":"@"},{"$ref":"$"},{"$ref":"$.lists"}]}`:           func(b *body) bool { return len(b.Lists) == 6 && b.Lists[0].Name == "" },
		`{"messageQueueTable":{"$ref":"$.messageQueueTable.MessageQueue\\ \\[topic\\=T]"}}`:                                                  func(b *body) bool { return b.Last == nil },
	}
	for text, ok := range tests {
		var b body
		if err := Unmarshal([]byte(text), &b); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if !ok(&b) {
			t.Errorf("%s: read %+v", text, b)
		}
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat(`{"nested":`, n) + `{}` + strings.Repeat(`}`, n) }
	refs := `{"nested":{"$ref":"$.raw"},"raw":{"nested":{"$ref":"$.x"}},"x":{"nested":{"$ref":"$.raw"}}}`
	tests := map[string]string{
		"nothing":              ``,
		"blank":                ` `,
		"two values":           `{}{}`,
		"bare name":            `{name:1}`,
		"single quotes":        `{'name':1}`,
		"comma at the end":     `{"name":"x",}`,
		"comma in list":        `{"list":["a",]}`,
		"no colon":             `{"name" "x"}`,
		"unclosed object":      `{"name":"x"`,
		"unclosed list":        `{"list":["x"`,
		"unclosed text":        `{"name":"x`,
		"unclosed skipped":     `{"other":"x\`,
		"bad number":           `{"raw":1-2}`,
		"plus":                 `{"small":+1}`,
		"dot":                  `{"rate":1.}`,
		"exponent":             `{"rate":1e}`,
		"too big":              `{"small":2147483648}`,
		"fraction":             `{"small":1.5}`,
		"huge float":           `{"rate":1e999}`,
		"text for number":      `{"small":"x"}`,
		"text for bool":        `{"on":"yes"}`,
		"object for text":      `{"name":{}}`,
		"list for text":        `{"name":[]}`,
		"list for object":      `{"nested":[]}`,
		"object for list":      `{"list":{}}`,
		"number for list":      `{"list":1}`,
		"list for blob":        `{"blob":[1]}`,
		"bad base64":           `{"blob":"%"}`,
		"object key for text":  `{"table":{{"a":1}:1}}`,
		"text key for number":  `{"byId":{"x":"y"}}`,
		"null key":             `{"byId":{null:"y"}}`,
		"bad object key":       `{"byQueue":{"x":1}}`,
		"two object keys":      `{"byQueue":{"{}{}":1}}`,
		"too deep":             deep(DepthMax + 1),
		"too deep skipped":     `{"other":` + strings.Repeat("[", 100000),
		"too deep raw":         `{"raw":` + strings.Repeat(`{"a":`, 100000),
		"references in a ring": refs,
		"memory":               `[` + strings.Repeat(`{},`, 1<<17) + `{}]`,
	}
	for name, text := range tests {
		var one sample
		var many []sample
		var v any = &one
		if name == "memory" {
			v = &many
		}
		err := Unmarshal([]byte(text), v)
		var syntax *SyntaxError
		var value *ValueError
		if !errors.As(err, &syntax) && !errors.As(err, &value) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := Unmarshal([]byte(deep(DepthMax-1)), &sample{}); err != nil {
		t.Errorf("as deep as allowed: %v", err)
	}
	if err := Unmarshal([]byte(`{}`), sample{}); err == nil {
		t.Error("read into a value that is no pointer")
	}
}

func TestValueErrorsNameThePlace(t *testing.T) {
	for text, want := range map[string]string{
		`{"nested":{"table":{"T":"x"}}}`:                  `fastjson: .nested.table.T is "x", want a number of type int64`,
		`{"list":["a",{}]}`:                               `fastjson: .list[1] is an object, want text`,
		`{"deep":{"q":[{"queueId":1},{"queueId":true}]}}`: `fastjson: .deep.q[1].queueId is "true", want a number of type int32`,
		`{"name":"x"`:                                     `fastjson: want ',' or '}' at byte 11`,
	} {
		err := Unmarshal([]byte(text), &sample{})
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// A text full of references to a long list may not make the reader walk it again and again.
func TestReferencesAreBounded(t *testing.T) {
	text := `{"list":["` + strings.Repeat(`a","`, 1<<16) + `"],"deep":{"q":[{}` + strings.Repeat(`,{"$ref":"$.deep.x"}`, 1<<12) + `]}}`
	if err := Unmarshal([]byte(text), &sample{}); err == nil || !strings.Contains(err.Error(), "references") {
		t.Errorf("error %v", err)
	}
}

func TestScannerReadsEveryEscape(t *testing.T) {
	for text, want := range map[string]string{
		`"\"\\\/\'\b\t\n\v\f\r"`: "\"\\/'\b\t\n\v\f\r",
		`"\u00e9\u00E9\u20aC"`:   "éé€",
		`"\ud83d\ude00"`:         "😀",
		`"\ud83d"`:               "\uFFFD",
		`"\ud83dx"`:              "\uFFFDx",
		`"\ud83d\u0041"`:         "\uFFFDA",
		`"\ude00\ud83d"`:         "\uFFFD\uFFFD",
		`"\ud83d\uzzzz"`:         "",
		`"\u12"`:                 "",
		`"\u"`:                   "",
		`"\x"`:                   "",
		`"\"`:                    "",
		`"\`:                     "",
		`"`:                      "",
		``:                       "",
		`x`:                      "",
	} {
		scan := NewScanner(text)
		got, err := scan.String()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestReferencesIntoArraysAndOddKeys(t *testing.T) {
	type body struct {
		List  []map[string]int64 `json:"list"`
		ByID  map[int64][]int32  `json:"byId"`
		First map[string]int64   `json:"first"`
		IDs   []int32            `json:"ids"`
		Other []int32            `json:"other"`
	}
	var b body
	text := `{"list":[{"a":1},{"b":2}],"byId":{{"x":1}:[9],7:[5,6]},"first":{"$ref":"$.list[1]"},"ids":{"$ref":"$.byId[7]"},"other":{"$ref":"$.list[0].a.b"}}`
	err := Unmarshal([]byte(text), &b)
	var value *ValueError // an object is no int64 key
	if !errors.As(err, &value) {
		t.Fatalf("error %v", err)
	}
	b = body{}
	text = strings.Replace(text, `{"x":1}:[9],`, "", 1)
	if err := Unmarshal([]byte(text), &b); err != nil || b.First["b"] != 2 || len(b.IDs) != 2 || b.IDs[1] != 6 || b.Other != nil {
		t.Errorf("read %+v, %v", b, err)
	}
}
