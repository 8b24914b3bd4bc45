package fastjson

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzFastjsonDialect reads any text into a struct that has every kind of member. What is read is written, in both
// forms of keys, and read again as the same; and texts that the standard library reads are not refused.
func FuzzFastjsonDialect(f *testing.F) {
	for _, text := range []string{
		`{}`,
		`{"name":"\u00e9\n","note":"x","on":true,"small":-1,"big":"7","rate":1.5e3,"kind":"beta_2","blob":"BQI=","list":["a",null],"some":[]}`,
		`{"byId":{0:"a","1":"b"},"table":{"T":5},"raw":{0:[1,{"x":null}]},"nested":{"name":"n"}}`,
		`{"byQueue":{{"brokerName":"b","queueId":1,"topic":"T"}:5,"{\"topic\":\"S\"}":6}}`,
		`{"deep":{"a":[{"queueId":0}],"b":{"$ref":"$.deep.a"}},"nested":{"$ref":"$"}}`,
		`{"deep":{"a.b@1":[{"topic":"T"}],"b":{"$ref":"$.deep.a\\.b\\@1"}}}`,
		`{"unknown":{{"a":1}:[[[{}]]],3:4},"isOn":1}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := string(text)
		var first sample
		err := Unmarshal(text, &first)
		if string(text) != before {
			t.Fatal("text was changed")
		}
		if err != nil {
			var std struct {
				Name string   `json:"name"`
				List []string `json:"list"`
			}
			var members map[string]any
			if len(text) < 100 && json.Unmarshal(text, &members) == nil && len(members) <= 2 && json.Unmarshal(text, &std) == nil {
				for name := range members {
					if name != "name" && name != "list" {
						return
					}
				}
				t.Fatalf("refused %s: %v", text, err)
			}
			return
		}
		for name, write := range map[string]func(any) ([]byte, error){"quoted": Marshal, "legacy": MarshalLegacy} {
			out, err := write(&first)
			if err != nil {
				t.Fatalf("%s: %+v cannot be written: %v", name, first, err)
			}
			var second sample
			if err := Unmarshal(out, &second); err != nil {
				t.Fatalf("%s: wrote %s, which cannot be read: %v", name, out, err)
			}
			if out2, err := write(&second); err != nil || string(out2) != string(out) {
				t.Fatalf("%s: wrote %s, then %s, %v", name, out, out2, err)
			}
			if first.Nested == nil && !reflect.DeepEqual(first.Table, second.Table) && len(first.Table) > 0 {
				t.Fatalf("%s: %v became %v", name, first.Table, second.Table)
			}
		}
	})
}
