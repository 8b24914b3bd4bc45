package rmq.clients;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Pattern;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/** One call of the official mqadmin, as its main program would make it. One at a time: output is taken from the JVM's streams. */
final class MqadminCall {
    private static final List<Pattern> NEVER = List.of(
        Pattern.compile("[\\w.$]+(Exception|Error): .*"), Pattern.compile("^[\\w.$]+(Exception|Error)$", Pattern.MULTILINE), Pattern.compile("^\\s+at [\\w.$]+\\(.*", Pattern.MULTILINE), Pattern.compile("command failed.*"),
        Pattern.compile("^\\[error\\].*", Pattern.MULTILINE), Pattern.compile("^usage: mqadmin.*", Pattern.MULTILINE), Pattern.compile("The sub command .* not exist"));

    private MqadminCall() {
    }

    /** Returns what the command wrote to stdout and stderr. */
    static String run(String namesrv, List<String> args) {
        List<String> all = new ArrayList<>(args);
        all.addAll(List.of("-n", namesrv));
        ByteArrayOutputStream taken = new ByteArrayOutputStream();
        PrintStream out = System.out;
        PrintStream err = System.err;
        PrintStream both = new PrintStream(taken, true, StandardCharsets.UTF_8);
        System.setOut(both);
        System.setErr(both);
        try {
            MQAdminStartup.main0(all.toArray(String[]::new), null);
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
        return taken.toString(StandardCharsets.UTF_8);
    }

    /** Says what is wrong with an output, or null: what it must not hold, then the first expected line (a regular expression, ^ and $ per line) it lacks. */
    static String problem(String output, String... expected) {
        for (Pattern never : NEVER) {
            var m = never.matcher(output);
            if (m.find()) {
                return "printed: " + m.group();
            }
        }
        for (String line : expected) {
            if (!Pattern.compile(line, Pattern.MULTILINE).matcher(output).find()) {
                return "not in the output: " + line;
            }
        }
        return null;
    }
}
