package namesrv

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func openTestSettings(t *testing.T, path string, initial Settings) *settings {
	t.Helper()
	s, err := openSettings(path, initial, map[string]string{"listenPort": "9876", "kvConfigPath": "/x/kvConfig.json"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSettingsAreChangedAndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "override.properties")
	s := openTestSettings(t, path, DefaultSettings())
	if err := s.update("# from an operator\norderMessageEnable=true\r\n waitSecondsForService = 7\n\n"); err != nil {
		t.Fatal(err)
	}
	if err := s.update("scanNotActiveBrokerInterval=1500"); err != nil {
		t.Fatal(err)
	}
	fromFile := DefaultSettings()
	fromFile.ActingMaster = true
	for _, s := range []*settings{s, openTestSettings(t, path, fromFile)} {
		if got := s.get(); !got.OrderMessages || got.WaitForBrokersFor != 7*time.Second || got.ScanInterval != 1500*time.Millisecond {
			t.Errorf("settings are %+v", got)
		}
	}
	if got := openTestSettings(t, path, fromFile).get(); !got.ActingMaster {
		t.Error("what the process was started with is lost")
	}
}

func TestSettingsText(t *testing.T) {
	s := openTestSettings(t, filepath.Join(t.TempDir(), "override.properties"), DefaultSettings())
	want := `deleteTopicWithBrokerRegistration=false
enableAllTopicList=true
enableTopicList=true
kvConfigPath=/x/kvConfig.json
listenPort=9876
needWaitForService=false
notifyMinBrokerIdChanged=false
orderMessageEnable=false
returnOrderTopicConfigToBroker=true
scanNotActiveBrokerInterval=5000
supportActingMaster=false
waitSecondsForService=45
`
	if got := s.text(); got != want {
		t.Errorf("the settings are\n%s", got)
	}
}

// Both published attacks on Apache's name server wrote files through this request: a path key with chosen content.
func TestSettingsRefuse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "override.properties")
	s := openTestSettings(t, path, DefaultSettings())
	for text, want := range map[string]error{
		"configStorePath=/etc/cron.d/x\norderMessageEnable=true": ErrUnknownKey,
		"configStorePathName=/etc/cron.d/x":                      ErrUnknownKey,
		"rocketmqHome=$(id)":                                     ErrUnknownKey,
		"orderMessageEnable=true\nkvConfigPath=/tmp/x":           ErrFixedKey,
		"listenPort=1":                               ErrFixedKey,
		"orderMessageEnabled=true":                   ErrUnknownKey,
		"OrderMessageEnable=true":                    ErrUnknownKey,
		"orderMessageEnable=yes":                     ErrBadValue,
		"orderMessageEnable=":                        ErrBadValue,
		"waitSecondsForService=-1":                   ErrBadValue,
		"waitSecondsForService=1e3":                  ErrBadValue,
		"waitSecondsForService=99999999999999999999": ErrBadValue,
		"scanNotActiveBrokerInterval=0":              ErrBadValue,
		"no separator":                               ErrBadValue,
		strings.Repeat("#", settingsBytesMax+1):      ErrBadValue,
	} {
		if err := s.update(text); !errors.Is(err, want) {
			t.Errorf("%.80q: %v, want %v", text, err, want)
		}
	}
	if s.get() != DefaultSettings() {
		t.Errorf("refused changes were made: %+v", s.get())
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("refused changes were written: %v", err)
	}
}

func TestSettingsRefuseABrokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "override.properties")
	if err := os.WriteFile(path, []byte("scanNotActiveBrokerInterval=soon\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openSettings(path, DefaultSettings(), nil); !errors.Is(err, ErrBadValue) || !strings.Contains(err.Error(), path) {
		t.Fatalf("a broken file: %v", err)
	}
}

func TestSettingsWriteFails(t *testing.T) {
	dir := t.TempDir()
	s := openTestSettings(t, filepath.Join(dir, "override.properties"), DefaultSettings())
	if err := os.Mkdir(filepath.Join(dir, "override.properties.tmp"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.update("orderMessageEnable=true"); err == nil || s.get().OrderMessages {
		t.Fatalf("a change that is not on disk was made: %v", err)
	}
}
