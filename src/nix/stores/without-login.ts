/**
 * A URL for messages, without the user and the password. The text may be invalid, so this removes
 * everything before the last `@`: a password may contain a slash or another `@`.
 */
export function withoutLogin(url: string): string {
  return url.replace(/\/\/.*@/s, '//')
}
