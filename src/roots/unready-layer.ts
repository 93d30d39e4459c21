/**
 * What must be done before a layer can be opened, and would take long. It is done while the server goes
 * on to serve others. Then the layer is opened again.
 */
/** A layer cannot be opened yet. It is as before. */
export abstract class UnreadyLayer extends Error {
  /** What must stay open or locked meanwhile. */
  readonly held = new DisposableStack()

  /**
   * Disposes of `held`, also after an error. Only if the layer is open then, `held` belongs to it.
   *
   * @param end ends all work
   * @param stop ends only work that the next opening goes on with, or that it does anew in any case: a
   *   binding goes on. Otherwise a machine that starts again and again would never be bound. Default: never
   * @throws the reason of the signal, and errors as those of opening the layer
   */
  abstract makeReady(end: AbortSignal, stop?: AbortSignal): Promise<void>

  /** To be called instead of `makeReady` if the layer is not opened. Disposes of `held`. */
  giveUp(): void {
    this.held.dispose()
  }
}
