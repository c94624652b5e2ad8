import ArgumentParser
import Graft

struct BenchGEMMCommand: ReportingCommand {
  static let configuration = CommandConfiguration(
    commandName: "gemm", abstract: "Measure a matrix product.",
    discussion: """
      y = a b with a of M × K and b of K × N, random numbers in float32. Both are inputs: what a kernel packs or transposes is part of \
      the time, as with a BLAS, and with another --precision the conversion of a, b and y is too. A sample of the results is compared \
      with double precision.
      """)

  @Option(help: "Rows of a and of the result.") var m: Int
  @Option(help: "Columns of b and of the result.") var n: Int
  @Option(help: "Columns of a, rows of b.") var k: Int
  @Flag(help: "a lies transposed in memory: K × M.") var transposeA = false
  @Flag(help: "b lies transposed in memory: N × K, as a linear layer's weights do.") var transposeB = false
  @Option(help: "Pairs of matrices.") var batch = 1
  @Flag(help: "b is a constant, packed before the measurement, as a layer's weights are.") var packed = false
  @OptionGroup var options: OperationBenchmarkOptions

  func validate() throws {
    for (name, value) in [("m", m), ("n", n), ("k", k), ("batch", batch)] where value < 1 {
      throw ValidationError("--\(name) takes a positive number, not \(value).")
    }
  }

  func execute() throws {
    let benchmark = try OperationBenchmark(
      m: m, n: n, k: k, batch: batch, transposeA: transposeA, transposeB: transposeB, isPacked: packed)
    let notes = [batch > 1 ? "\(batch) pairs" : "", transposeA ? "a transposed" : "", transposeB ? "b transposed" : "", packed ? "b packed" : ""]
    let what = (["gemm \(m) × \(k) by \(k) × \(n)"] + notes.filter { !$0.isEmpty }).joined(separator: ", ")
    try options.run(
      benchmark, what, operation: "gemm",
      sizes: [
        "m": .number(m), "n": .number(n), "k": .number(k), "batch": .number(batch), "transpose_a": .flag(transposeA),
        "transpose_b": .flag(transposeB), "packed": .flag(packed),
      ])
  }
}
