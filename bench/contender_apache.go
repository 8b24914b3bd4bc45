package bench

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
)

// apache is Apache RocketMQ from Maven Central in a JVM with a small heap. Everything else is as it ships.
type apache struct {
	release   string // such as 5.3.3
	cacheDir  string
	heap      string // such as 512m, for -Xms and -Xmx
	java      string // program; set by prepare
	classPath string // set by prepare
	jvm       string // first line of java -version; set by prepare
}

func (a *apache) name() string { return "apache-" + a.release }
func (a *apache) version() string {
	return "Apache RocketMQ " + a.release + ", " + a.jvm + ", heap " + a.heap
}

func (a *apache) prepare(ctx context.Context) (err error) {
	if a.java, err = exec.LookPath("java"); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, a.java, "-version").CombinedOutput()
	if err != nil {
		return err
	}
	a.jvm, _, _ = strings.Cut(string(out), "\n")
	a.classPath, err = apacheClassPath(ctx, a.cacheDir, a.release)
	return err
}

// javaOpens lets RocketMQ's use of JDK internals through on Java 17.
var javaOpens = [...]string{
	"--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
	"--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
	"--add-opens=java.base/java.nio=ALL-UNNAMED",
	"--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
	"--add-opens=java.base/jdk.internal.ref=ALL-UNNAMED",
	"--add-opens=java.base/java.lang=ALL-UNNAMED",
}

func (a *apache) command(r role, dir, configFile string) (string, []string) {
	main := "org.apache.rocketmq.broker.BrokerStartup"
	heap := a.heap
	if r == roleNameServer {
		main, heap = "org.apache.rocketmq.namesrv.NamesrvStartup", "128m"
	}
	args := append([]string{"-server"}, javaOpens[:]...)
	args = append(args,
		"-Xms"+heap, "-Xmx"+heap, "-XX:MaxDirectMemorySize=1g",
		"-Drocketmq.home.dir="+filepath.Join(dir, "home"),
		"-Duser.home="+filepath.Join(dir, "home"),
		"-Djava.io.tmpdir="+filepath.Join(dir, "tmp"),
		"-cp", a.classPath, main, "-c", configFile)
	return a.java, args
}
