#!/usr/bin/env node
/** The program `netimage`. */

// Check this before anything else is loaded: older versions of Node lack modules that we import.
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const supported = major >= 26 || (major === 24 && minor >= 15)

if (supported) {
  const { keepCompiledCode } = await import('./compile-cache.ts')
  keepCompiledCode()
  const { main } = await import('./commands/main.ts')
  await main()
} else {
  process.stderr.write(
    `error: netimage needs Node 24.15 or later, or 26 or later; this is ${process.version}\n`,
  )
  process.exitCode = 1
}
