// The turns of the event loop that long work takes.

/** Does the action in each turn of the loop. @returns how many there were */
export async function turnsOf(
  finished: Promise<void>,
  action: (turn: number) => void,
): Promise<number> {
  let [turns, isFinished] = [0, false]
  const end = () => void (isFinished = true)
  finished.then(end, end)
  for (; !isFinished; turns++) {
    action(turns)
    await new Promise((resolve) => setImmediate(resolve))
  }
  await finished
  return turns
}
