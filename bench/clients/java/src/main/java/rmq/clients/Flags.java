package rmq.clients;

import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/** A command line of "--name value" pairs. Unknown names end the program with the list of known ones. */
final class Flags {
    private final Map<String, String> values = new LinkedHashMap<>();

    /** known alternates names and defaults; a default of null makes the flag required. */
    Flags(String program, String[] args, String... known) {
        for (int i = 0; i < known.length; i += 2) {
            values.put(known[i], known[i + 1]);
        }
        Set<String> names = Set.copyOf(values.keySet());
        for (int i = 0; i < args.length; i += 2) {
            String name = args[i].startsWith("--") ? args[i].substring(2) : args[i];
            if (!names.contains(name) || i + 1 == args.length) {
                fail(program, "unknown flag or missing value: " + args[i] + " in " + Arrays.toString(args));
            }
            values.put(name, args[i + 1]);
        }
        values.forEach((name, value) -> {
            if (value == null) {
                fail(program, "--" + name + " is required");
            }
        });
    }

    private void fail(String program, String reason) {
        System.err.println(program + ": " + reason);
        System.err.println("flags (with defaults): " + values);
        System.exit(2);
    }

    String text(String name) {
        return values.get(name);
    }

    int number(String name) {
        return Integer.parseInt(values.get(name));
    }
}
