package bench

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed apache.pom.xml
var apachePOM []byte

// dependencyPlugin is the Maven plugin that prints class paths, at a fixed version so that a run today and one next
// year resolve alike.
const dependencyPlugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath"

// apacheClassPath returns the class path of Apache's name server and broker of a version. It is kept in cacheDir, so
// that Maven runs once per version and machine.
func apacheClassPath(ctx context.Context, cacheDir, version string) (string, error) {
	dir := filepath.Join(cacheDir, "apache-"+version)
	file := filepath.Join(dir, "class.path")
	if path, err := readClassPath(file); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	pom := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(pom, apachePOM, 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "mvn", "-B", "-q", "-f", pom, dependencyPlugin,
		"-Drocketmq.version="+version, "-DincludeScope=runtime", "-Dmdep.outputFile="+file)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("bench: ask Maven for the class path of RocketMQ %s: %w\n%s", version, err, bytes.TrimSpace(out))
	}
	return readClassPath(file)
}

// readClassPath reads a class path file. It fails when a jar that the file names is gone, so that a cleaned Maven
// repository is filled again.
func readClassPath(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	path := strings.TrimSpace(string(text))
	if path == "" {
		return "", errors.New("bench: empty class path file " + file)
	}
	for _, jar := range filepath.SplitList(path) {
		if _, err := os.Stat(jar); err != nil {
			return "", err
		}
	}
	return path, nil
}
