package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:generate go test -run TestConfigurationPageIsCurrent . -args -update

// keysText is the key table; its head says how to read it.
//
//go:embed keys.txt
var keysText string

// treatment says what rmq does with a key, whether this version does it already or not.
type treatment string

const (
	honour treatment = "H"
	accept treatment = "W"
	refuse treatment = "R"
)

// keySpec is one line of the key table.
type keySpec struct {
	Class     string // RocketMQ's configuration class, or Outside
	Key       string
	Type      string
	Default   string
	Since     string
	Important bool
	Treatment treatment
	Note      string
}

// Roles decide which classes a file may draw keys from, and which class wins where two hold the same key.
const (
	roleBroker  = "broker"
	roleNamesrv = "namesrv"
)

func roleClasses(role string) []string {
	if role == roleNamesrv {
		return []string{"NamesrvConfig", "NettyServerConfig", "NettyClientConfig", "ControllerConfig", "JraftConfig", "Rmq", "Outside"}
	}
	return []string{"BrokerIdentity", "BrokerConfig", "MessageStoreConfig", "NettyServerConfig", "NettyClientConfig", "AuthConfig", "Rmq", "Outside"}
}

// keyTable is the part of the key table that one role may use.
type keyTable struct {
	role     string
	byName   map[string]keySpec
	prefixes []keySpec          // keys that end in *
	others   map[string]keySpec // keys of other roles
}

// parseKeys reads the whole key table.
func parseKeys() ([]keySpec, error) {
	var specs []keySpec
	class := ""
	for i, line := range strings.Split(strings.TrimSuffix(keysText, "\n"), "\n") {
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			class = strings.Trim(line, "[]")
		default:
			col := strings.Split(line, "\t")
			if len(col) != 7 || class == "" {
				return nil, fmt.Errorf("keys.txt:%d: %d columns, want 7 below a [Class]", i+1, len(col))
			}
			specs = append(specs, keySpec{Class: class, Key: col[0], Type: col[1], Default: col[2], Since: col[3],
				Important: col[4] == "*", Treatment: treatment(col[5]), Note: col[6]})
		}
	}
	return specs, nil
}

// newKeyTable returns the keys of role.
func newKeyTable(role string) (*keyTable, error) {
	specs, err := parseKeys()
	if err != nil {
		return nil, err
	}
	t := &keyTable{role: role, byName: map[string]keySpec{}, others: map[string]keySpec{}}
	classes := roleClasses(role)
	for _, class := range classes {
		for _, spec := range specs {
			if spec.Class != class {
				continue
			}
			if strings.HasSuffix(spec.Key, "*") {
				t.prefixes = append(t.prefixes, spec)
			} else if _, taken := t.byName[spec.Key]; !taken {
				t.byName[spec.Key] = spec
			}
		}
	}
	for _, spec := range specs {
		if !slices.Contains(classes, spec.Class) {
			t.others[spec.Key] = spec
		}
	}
	return t, nil
}

// find returns the spec of key, following an old spelling to the key it means; alias tells that it did.
func (t *keyTable) find(key string) (spec keySpec, alias, ok bool) {
	spec, ok = t.byName[key]
	if ok && spec.Type == "alias" {
		spec, ok = t.byName[spec.Default]
		return spec, true, ok
	}
	if ok {
		return spec, false, true
	}
	for _, p := range t.prefixes {
		if strings.HasPrefix(key, strings.TrimSuffix(p.Key, "*")) {
			return p, false, true
		}
	}
	return keySpec{}, false, false
}

// hint says what an unknown key may have been meant to be, or "".
func (t *keyTable) hint(key string) string {
	if other, ok := t.others[key]; ok {
		return fmt.Sprintf("it is a key of %s, not of a %s file", other.Class, t.role)
	}
	best, bestDistance := "", max(2, len(key)/4)+1
	for name := range t.byName {
		d := editDistance(strings.ToLower(key), strings.ToLower(name))
		if d < bestDistance || d == bestDistance && best != "" && name < best {
			best, bestDistance = name, d
		}
	}
	switch {
	case best == "":
		return ""
	case bestDistance == 0:
		return fmt.Sprintf("did you mean %s? Upper and lower case matter", best)
	}
	return fmt.Sprintf("did you mean %s?", best)
}

// editDistance counts the single-byte insertions, deletions and substitutions that turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// checkType reports whether value can be read as the type of the key; the text completes "key = value: ...".
func (s keySpec) checkType(value string) error {
	switch s.Type {
	case "int":
		return checkNumber(value, 32)
	case "long":
		return checkNumber(value, 64)
	case "double":
		if _, err := strconv.ParseFloat(value, 64); err != nil {
			return fmt.Errorf("is not a number")
		}
	case "boolean":
		if _, err := parseBoolean(value); err != nil {
			return err
		}
	}
	if words := enumWords(s.Type); words != nil && !slices.Contains(words, value) {
		return fmt.Errorf("is not one of %s", strings.Join(words, ", "))
	}
	return nil
}

func checkNumber(value string, bits int) error {
	_, err := strconv.ParseInt(value, 10, bits)
	if err == nil {
		return nil
	}
	if _, err := strconv.ParseInt(value, 10, 64); err == nil {
		return fmt.Errorf("does not fit in %d bits", bits)
	}
	return fmt.Errorf("is not a whole number")
}

// parseBoolean reads true and false in any case. RocketMQ takes every other word for false.
func parseBoolean(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("is neither true nor false")
}

func enumWords(typ string) []string {
	switch typ {
	case "BrokerRole":
		return []string{string(AsyncMaster), string(SyncMaster), string(Slave)}
	case "FlushDiskType":
		return []string{string(SyncFlush), string(AsyncFlush)}
	case "MessageRequestMode":
		return []string{"PULL", "POP"}
	case "MetricsExporterType":
		return []string{"DISABLE", "OTLP_GRPC", "PROM", "LOG", "0", "1", "2", "3"}
	}
	return nil
}

// secret reports whether the value of key, perhaps misspelt, must not appear in logs, errors or printed configurations.
func secret(key string) bool {
	key = strings.ToLower(key)
	for _, part := range []string{"password", "credential", "secret", "authenticationuser"} {
		if strings.Contains(key, part) {
			return true
		}
	}
	return false
}

// refusal says why value is not taken for the key, or "" if it is: keys that are always refused unless harmless, and
// keys whose promise this version cannot keep and must not ignore.
func (s keySpec) refusal(value string) string {
	on := strings.EqualFold(value, "true")
	switch s.Key {
	case "authenticationEnabled", "authorizationEnabled":
		if on {
			return "there is no authentication yet, and a broker that was asked for it must not run open"
		}
	case "tls.server.mode":
		if strings.EqualFold(value, "enforcing") {
			return "there is no TLS yet, and a port that was asked to enforce it must not speak plain text"
		}
	case "useTLS", "tls.enable":
		if on {
			return "there is no TLS yet, and connections that were asked to use it must not be plain text"
		}
	case "storePathCommitLog":
		if strings.Contains(value, ",") {
			return "several log paths are not supported"
		}
	}
	if s.Treatment != refuse || value == "" {
		return ""
	}
	switch s.Key {
	case "authenticationProvider", "authenticationMetadataProvider", "authorizationProvider", "authorizationMetadataProvider":
		if strings.HasPrefix(value, "org.apache.rocketmq.auth.") {
			return ""
		}
	default:
		if s.Type == "boolean" && !on {
			return ""
		}
	}
	return s.Note
}
