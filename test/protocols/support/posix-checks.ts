// A script for a Linux client: it checks that the file system at /mnt behaves like the client's
// own.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Runs the checks in both file systems, and compares the output. */
export const posixChecks = `
cat > /tmp/checks <<'END'
${readFileSync(join(import.meta.dirname, 'posix-checks.sh'), 'utf8')}
END
mkdir /mnt/here /tmp/here || exit 1
cd /tmp/here && sh /tmp/checks >/tmp/expected 2>&1 || { tail -5 /tmp/expected; exit 2; }
echo checking
cd /mnt/here && sh /tmp/checks >/tmp/actual 2>&1 || { tail -5 /tmp/actual; exit 3; }
cd /
wc -l </tmp/expected
diff /tmp/expected /tmp/actual >/tmp/difference && exit 0
head -60 /tmp/difference
exit 1
`
