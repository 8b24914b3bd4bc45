package harness

import (
	"fmt"
	"os"
	"path/filepath"
)

// WriteJavaHome makes home a directory that the Apache programs accept as rocketmq.home.dir: 4.9 looks for a logback file of its own there.
func WriteJavaHome(clients, home string) error {
	logback, err := os.ReadFile(filepath.Join(clients, "java/conf/logback.xml"))
	if err != nil {
		return err
	}
	conf := filepath.Join(home, "conf")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	for _, program := range []string{"namesrv", "broker", "tools"} {
		if err := os.WriteFile(filepath.Join(conf, "logback_"+program+".xml"), logback, 0o644); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(home, "tmp"), 0o755)
}

// JavaCommand starts a command line for any of the Apache programs: what they need on Java 17, and everything they write kept below home,
// which WriteJavaHome has prepared. In all of these, clients is the directory of this module's parent, with java/ in it.
func JavaCommand(home string) []string {
	logback := filepath.Join(home, "conf/logback_tools.xml")
	cmd := []string{"java", "-XX:+UseSerialGC",
		"-Duser.home=" + home, "-Djava.io.tmpdir=" + filepath.Join(home, "tmp"), "-Drocketmq.home.dir=" + home,
		"-Drmq.logback.configurationFile=" + logback, "-Dlogback.configurationFile=" + logback}
	for _, p := range []string{"java.base/sun.nio.ch", "java.base/jdk.internal.ref"} {
		cmd = append(cmd, "--add-exports="+p+"=ALL-UNNAMED")
	}
	for _, p := range []string{"java.base/java.nio", "java.base/sun.nio.ch", "java.base/jdk.internal.ref", "java.base/java.lang"} {
		cmd = append(cmd, "--add-opens="+p+"=ALL-UNNAMED")
	}
	return cmd
}

// ClientCommand is the command line of one of our main classes on the client of a version.
func ClientCommand(clients, version, class, home string, jvm, args []string) []string {
	target := filepath.Join(clients, "java/target", version)
	classPath, err := os.ReadFile(filepath.Join(target, "client.cp"))
	if err != nil {
		classPath = nil // the program then says which class it lacks
	}
	cmd := append(JavaCommand(home), "-Xmx384m", "-XX:TieredStopAtLevel=1")
	cmd = append(cmd, jvm...)
	cmd = append(cmd, "-cp", filepath.Join(target, "classes")+":"+string(classPath), "rmq.clients."+class)
	return append(cmd, args...)
}

// ApacheCommand is the command line of a main class of org.apache.rocketmq from the server class path of a version.
func ApacheCommand(clients, version, class, home string, flags ...string) ([]string, error) {
	classPath, err := os.ReadFile(filepath.Join(clients, "java/target", version, "server.cp"))
	if err != nil {
		return nil, fmt.Errorf("setup.sh apache has not run: %w", err)
	}
	cmd := append(JavaCommand(home), flags...)
	return append(cmd, "-cp", string(classPath), "org.apache.rocketmq."+class), nil
}
