package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting connects a Java key to a field: set reads the text of a property file, get writes what set would read.
// set sees only texts that passed keySpec.checkType; its error completes "key = value: ...".
type setting struct {
	set func(string) error
	get func() string
}

// textValue is any text; required refuses the empty one.
func textValue[T ~string](p *T, required bool) setting {
	return setting{
		set: func(s string) error {
			if required && s == "" {
				return fmt.Errorf("must not be empty")
			}
			*p = T(s)
			return nil
		},
		get: func() string { return string(*p) },
	}
}

// wordValue is one of a few words.
func wordValue(p *string, words ...string) setting {
	return setting{
		set: func(s string) error {
			if !slices.Contains(words, s) {
				return fmt.Errorf("is not one of %s", strings.Join(words, ", "))
			}
			*p = s
			return nil
		},
		get: func() string { return *p },
	}
}

func boolValue(p *bool) setting {
	return setting{
		set: func(s string) (err error) { *p, err = parseBoolean(s); return err },
		get: func() string { return strconv.FormatBool(*p) },
	}
}

// intValue is a whole number from least to most.
func intValue[T ~int | ~int32 | ~int64](p *T, least, most int64) setting {
	return setting{
		set: func(s string) error {
			n, err := parseRange(s, least, most)
			*p = T(n)
			return err
		},
		get: func() string { return strconv.FormatInt(int64(*p), 10) },
	}
}

// durationValue is a whole number of units from least to most.
func durationValue(p *time.Duration, unit time.Duration, least, most int64) setting {
	return setting{
		set: func(s string) error {
			n, err := parseRange(s, least, most)
			*p = time.Duration(n) * unit
			return err
		},
		get: func() string { return strconv.FormatInt(int64(*p/unit), 10) },
	}
}

// instantValue is a point in time in milliseconds since 1970; 0 is the zero Time.
func instantValue(p *time.Time) setting {
	return setting{
		set: func(s string) error {
			n, err := parseRange(s, 0, 1<<52)
			if *p = (time.Time{}); n > 0 {
				*p = time.UnixMilli(n)
			}
			return err
		},
		get: func() string {
			if p.IsZero() {
				return "0"
			}
			return strconv.FormatInt(p.UnixMilli(), 10)
		},
	}
}

// hoursOfDayValue is deleteWhen: hours such as "04" or "04;16".
func hoursOfDayValue(p *[]int) setting {
	return setting{
		set: func(s string) error {
			var hours []int
			for word := range strings.SplitSeq(s, ";") {
				if word = strings.TrimSpace(word); word == "" {
					continue
				}
				h, err := parseRange(word, 0, 23)
				if err != nil {
					return fmt.Errorf("is not a list of hours of the day such as 04 or 04;16: %q %w", word, err)
				}
				hours = append(hours, int(h))
			}
			if len(hours) == 0 {
				return fmt.Errorf("names no hour of the day")
			}
			*p = hours
			return nil
		},
		get: func() string {
			words := make([]string, len(*p))
			for i, h := range *p {
				words[i] = fmt.Sprintf("%02d", h)
			}
			return strings.Join(words, ";")
		},
	}
}

// delayLevelsValue is messageDelayLevel: durations such as "1s 5s 1m", the first for level 1.
func delayLevelsValue(p *[]time.Duration) setting {
	units := []struct {
		letter string
		unit   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	const levelsMax = 1024
	return setting{
		set: func(s string) error {
			var levels []time.Duration
		words:
			for _, word := range strings.Fields(s) {
				for _, u := range units {
					digits, ok := strings.CutSuffix(word, u.letter)
					if !ok {
						continue
					}
					n, err := parseRange(digits, 0, int64(3650*24*time.Hour/u.unit))
					if err != nil {
						return fmt.Errorf("holds the level %q whose number %w", word, err)
					}
					levels = append(levels, time.Duration(n)*u.unit)
					continue words
				}
				return fmt.Errorf("holds the level %q, which does not end in s, m, h or d", word)
			}
			if len(levels) == 0 || len(levels) > levelsMax {
				return fmt.Errorf("must hold 1 to %d levels", levelsMax)
			}
			*p = levels
			return nil
		},
		get: func() string {
			words := make([]string, len(*p))
			for i, level := range *p {
				for _, u := range units {
					if level%u.unit == 0 {
						words[i] = strconv.FormatInt(int64(level/u.unit), 10) + u.letter
						break
					}
				}
			}
			return strings.Join(words, " ")
		},
	}
}

// addressesValue is a list of name servers.
func addressesValue(p *[]string) setting {
	return setting{
		set: func(s string) (err error) { *p, err = parseNamesrvList(s); return err },
		get: func() string { return strings.Join(*p, ";") },
	}
}

// ipValue is an IP address, or empty.
func ipValue(p *string) setting {
	return setting{
		set: func(s string) error {
			if _, err := netip.ParseAddr(s); err != nil && s != "" {
				return fmt.Errorf("is not an IP address")
			}
			*p = s
			return nil
		},
		get: func() string { return *p },
	}
}

// peersValue is dLegerPeers: "n0-host:port;n1-host:port".
func peersValue(p *[]DLedgerPeer) setting {
	return setting{
		set: func(s string) error {
			var peers []DLedgerPeer
			for word := range strings.SplitSeq(s, ";") {
				if word = strings.TrimSpace(word); word == "" {
					continue
				}
				id, address, _ := strings.Cut(word, "-")
				number, err := parseMemberID(id)
				if err != nil || checkAddress(address) != nil {
					return fmt.Errorf("holds %q, which is not n<number>-host:port", word)
				}
				for _, other := range peers {
					if other.Number == number {
						return fmt.Errorf("names n%d twice", number)
					}
				}
				peers = append(peers, DLedgerPeer{Number: number, Address: address})
			}
			*p = peers
			return nil
		},
		get: func() string {
			words := make([]string, len(*p))
			for i, peer := range *p {
				words[i] = fmt.Sprintf("n%d-%s", peer.Number, peer.Address)
			}
			return strings.Join(words, ";")
		},
	}
}

// memberValue is dLegerSelfId: "n" and a number; -1 = not given.
func memberValue(p *int64) setting {
	return setting{
		set: func(s string) (err error) {
			*p = -1
			if s != "" {
				*p, err = parseMemberID(s)
			}
			return err
		},
		get: func() string {
			if *p < 0 {
				return ""
			}
			return "n" + strconv.FormatInt(*p, 10)
		},
	}
}

func parseMemberID(s string) (int64, error) {
	digits, ok := strings.CutPrefix(s, "n")
	if n, err := parseRange(digits, 0, 1<<31-1); ok && err == nil {
		return n, nil
	}
	return -1, fmt.Errorf("is not n and a number")
}

func parseRange(s string, least, most int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("is not a whole number")
	}
	if n < least || n > most {
		return 0, fmt.Errorf("is not in %d..%d", least, most)
	}
	return n, nil
}
