// Whether what is mounted at /mnt of a Linux client behaves as its own file system: its script.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Does the same here and there, and compares what it printed. */
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
