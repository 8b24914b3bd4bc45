package fastjson

import (
	"reflect"
	"strconv"
	"strings"
)

// refWorkMax is how many bytes of text may be walked and read again on behalf of all references of one text.
const refWorkMax = 32 << 20

// reference takes {"$ref":"path"} if it comes next. If not, the scanner is left anywhere.
func (d *decoder) reference() (path string, ok bool) {
	d.scan.Take('{')
	const name = `"$ref"`
	if d.scan.Peek() != '"' || !strings.HasPrefix(d.scan.text[d.scan.pos:], name) {
		return "", false
	}
	d.scan.pos += len(name)
	if !d.scan.Take(':') || d.scan.Peek() != '"' {
		return "", false
	}
	path, err := d.scan.String()
	return path, err == nil && d.scan.Take('}')
}

// resolve reads the value at path into v. at is where the reference stands. A path that leads nowhere, or to a value
// around the reference, leaves v as it is.
func (d *decoder) resolve(path string, at int, v reflect.Value, depth int) error {
	after := d.scan
	defer func() { d.scan = after }()
	steps, ok := refSteps(path)
	if !ok {
		return nil
	}
	d.scan.pos = 0
	found, err := d.walk(steps)
	if d.refWork -= d.scan.pos; d.refWork < 0 {
		return d.scan.Fail("references cost too much")
	}
	if err != nil || !found {
		return err
	}
	start := d.scan.pos
	if err := d.scan.Skip(depth); err != nil {
		return err
	}
	end := d.scan.pos
	if d.refWork -= end - start; d.refWork < 0 {
		return d.scan.Fail("references cost too much")
	}
	if start <= at && at < end {
		return nil
	}
	d.scan.pos = start
	return d.value(v, nil, depth+1)
}

// walk moves the scanner, which stands before a value, to the value inside it that steps lead to.
func (d *decoder) walk(steps []string) (found bool, err error) {
	for _, step := range steps {
		switch d.scan.Peek() {
		case '{':
			found, err = d.enterObject(step)
		case '[':
			found, err = d.enterArray(step)
		default:
			return false, nil
		}
		if err != nil || !found {
			return false, err
		}
	}
	return true, nil
}

func (d *decoder) enterObject(step string) (bool, error) {
	d.scan.Take('{')
	for more := !d.scan.Take('}'); more; {
		name := ""
		var err error
		switch d.scan.Peek() {
		case '"':
			name, err = d.scan.String()
		case '{':
			err = d.scan.Skip(0)
		default:
			name, err = d.scan.Literal()
		}
		if err == nil {
			err = d.scan.Expect(':')
		}
		if err != nil {
			return false, err
		}
		if name == step {
			return true, nil
		}
		if err = d.scan.Skip(0); err != nil {
			return false, err
		}
		if more, err = d.scan.More('}'); err != nil {
			return false, err
		}
	}
	return false, nil
}

func (d *decoder) enterArray(step string) (bool, error) {
	n, err := strconv.Atoi(step)
	if err != nil {
		return false, nil
	}
	d.scan.Take('[')
	for more := !d.scan.Take(']'); more; n-- {
		if n == 0 {
			return true, nil
		}
		if err := d.scan.Skip(0); err != nil {
			return false, err
		}
		if more, err = d.scan.More(']'); err != nil {
			return false, err
		}
	}
	return false, nil
}

// refSteps takes a path such as $.table.a\.b[3] apart. A backslash makes the character after it part of a name.
// Paths that do not start at the root (".." and "@") are not followed.
func refSteps(path string) ([]string, bool) {
	rest, ok := strings.CutPrefix(path, "$")
	if !ok {
		return nil, false
	}
	var steps []string
	var step strings.Builder
	flush := func() {
		if step.Len() > 0 {
			steps = append(steps, step.String())
			step.Reset()
		}
	}
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; c {
		case '.', '[', ']':
			flush()
		case '\\':
			if i++; i < len(rest) {
				step.WriteByte(rest[i])
			}
		default:
			step.WriteByte(c)
		}
	}
	flush()
	return steps, len(steps) <= DepthMax
}
