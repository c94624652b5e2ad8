import GraftDevice
import GraftGraph
import OperationSamples
import Testing

/// Benchmarks of single operations: the error check finds errors, and sizes that cannot be had are refused.
@Suite struct OperationBenchmarkTests {
  struct Case: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let make: @Sendable () throws -> OperationBenchmark
  }

  static let cases: [Case] = {
    var cases: [Case] = []
    for (transposeA, transposeB) in [(false, false), (true, false), (false, true), (true, true)] {
      for (batch, isPacked) in [(1, false), (1, true), (3, false)] {
        cases.append(
          Case(testDescription: "gemm \(transposeA) \(transposeB) \(batch) \(isPacked)") {
            try OperationBenchmark(m: 37, n: 70, k: 19, batch: batch, transposeA: transposeA, transposeB: transposeB, isPacked: isPacked)
          })
      }
    }
    cases.append(
      Case(testDescription: "conv") {
        try OperationBenchmark(input: [2, 9, 11, 12], outputs: 18, kernel: Pair(3, 2), stride: Pair(2, 1), padding: Padding2D(1), groups: 3)
      })
    cases.append(
      Case(testDescription: "depthwise") {
        try OperationBenchmark(input: [2, 12, 9, 24], outputs: 24, kernel: Pair(3), padding: Padding2D(2), dilation: Pair(2), groups: 24)
      })
    for groups in [1, 4] {
      cases.append(
        Case(testDescription: "weights of \(groups)") {
          let conv = Conv2D(stride: Pair(2, 1), padding: Padding2D(1), dilation: Pair(1, 2), groups: groups)
          return try OperationBenchmark(
            weightsOf: Conv2DWeightGradient(of: conv, size: Pair(3, 2)), input: [3, 9, 11, 16], upstream: [3, 5, 11, 24])
        })
    }
    return cases
  }()

  /// Operands are numbers that every format holds, so what a shorter one adds is the rounding of the result.
  @Test(arguments: cases, TestDevices.allFormats) func resultsAgree(_ tested: Case, _ device: TestDevice) throws {
    let prepared = try tested.make().prepare(on: device.make(), options: PlanOptions(precision: device.precision))
    let accuracy = try prepared.accuracy(), rounding = device.precision.storageError(of: 1)
    #expect(accuracy.largestRelativeError < 2e-6 + rounding && accuracy.isWithinBound && accuracy.checkedCount > 0)
    #expect(accuracy.bound >= rounding && accuracy.bound < 2e-4 + rounding)
    // It is computed in that format: a result of many bits cannot be stored without an error.
    #expect(device.precision == .float32 || accuracy.largestRelativeError > rounding / 16)
  }

  /// Single elements of the reference are those of the operation's own definition.
  @Test func elementsAreTheDefinitions() throws {
    for sample in OperationSamples.all {
      guard let operation = sample.operation as? any ElementReference, sample.inputs.count == 2 else { continue }
      // Batches that broadcast are no case of a benchmark.
      if operation is MatMul, sample.inputs[0].shape.dropLast(2) != sample.inputs[1].shape.dropLast(2) { continue }
      var plain = operation
      if var conv = plain as? Conv2D {
        conv.activation = .none
        plain = conv
      }
      let tensors = sample.draw(seed: 3)
      let expected = plain.reference(tensors.map(ReferenceTensor.init))
      let values = tensors.map { $0.floats() }
      let found = ReferenceTensor(expected.shape) { plain.referenceElement(at: $0, values, sample.inputs) }
      for (a, b) in zip(found.values, expected.values) { #expect(abs(a - b) <= 1e-12 * max(1, abs(b))) }
    }
  }

  /// A result that is wrong in one place of those that are looked at, by little or by being no number, is found.
  @Test(arguments: cases) func wrongResultsAreFound(_ tested: Case) throws {
    let prepared = try tested.make().prepare(on: TestDevices.native[0].make())
    _ = try prepared.accuracy()
    let right = try prepared.plan.read(prepared.plan.graph.outputs[0])
    #expect(prepared.accuracy(of: right).isWithinBound)
    let largest = right.reduce(0) { max($0, abs($1)) }
    // The last corner is always among the sample.
    for wrong in [right[right.count - 1] + 1e-3 * largest, .nan, .infinity] {
      var result = right
      result[result.count - 1] = wrong
      let accuracy = prepared.accuracy(of: result)
      #expect(!accuracy.isWithinBound && accuracy.largestRelativeError > 9e-4)
    }
    #expect(!prepared.accuracy(of: right.map { _ in 0 }).isWithinBound)
  }

  @Test func costsAreCounted() throws {
    let gemm = try OperationBenchmark(m: 5, n: 7, k: 11, batch: 2, transposeA: true)
    #expect(gemm.flops == 2 * 2 * 5 * 7 * 11 && gemm.byteCount == 4 * 2 * (55 + 77 + 35) && gemm.outputShape == [2, 5, 7])
    let conv = try OperationBenchmark(input: [2, 8, 8, 6], outputs: 4, kernel: Pair(3), stride: Pair(2), padding: Padding2D(1), groups: 2)
    #expect(conv.outputShape == [2, 4, 4, 4] && conv.flops == 2 * 128 * 27 && conv.byteCount == 4 * (768 + 108 + 128))
  }

  /// Whatever the sizes are: an error that says so, never a trap.
  @Test func impossibleSizesAreRefused() {
    let large = [0, -1, 1 << 31, 1 << 40, .max, .min]
    for size in large {
      for (m, n, k, batch) in [(size, 2, 2, 1), (2, size, 2, 1), (2, 2, size, 1), (2, 2, 2, size), (size, size, size, size)] {
        for transpose in [false, true] {
          #expect(throws: OperationBenchmark.SizeError.self) {
            try OperationBenchmark(m: m, n: n, k: k, batch: batch, transposeA: transpose, transposeB: transpose)
          }
        }
      }
      func conv(
        _ input: [Int] = [1, 8, 8, 4], outputs: Int = 4, kernel: Pair = Pair(3), stride: Pair = Pair(1), padding: Padding2D = Padding2D(1),
        dilation: Pair = Pair(1), groups: Int = 1
      ) {
        #expect(throws: OperationBenchmark.SizeError.self) {
          try OperationBenchmark(
            input: input, outputs: outputs, kernel: kernel, stride: stride, padding: padding, dilation: dilation, groups: groups)
        }
      }
      for position in 0..<4 {
        var input = [1, 8, 8, 4]
        input[position] = size
        conv(input)
      }
      conv(outputs: size)
      conv(kernel: Pair(size, 1))
      conv(kernel: Pair(size))
      conv(stride: Pair(1, size))
      conv(dilation: Pair(size))
      conv(groups: size)
      if size != 0 { conv(padding: Padding2D(size)) }
    }
    // Each tensor can be had, their result or their packed weights cannot.
    #expect(throws: OperationBenchmark.SizeError.self) { try OperationBenchmark(m: 1 << 20, n: 1 << 20, k: 1) }
    #expect(throws: OperationBenchmark.SizeError.self) { try OperationBenchmark(m: 1, n: 1, k: 1 << 28) }
    #expect(throws: OperationBenchmark.SizeError.self) { try OperationBenchmark(input: [1, 2, 2, 3], outputs: 4, kernel: Pair(5)) }
    #expect(throws: OperationBenchmark.SizeError.self) { try OperationBenchmark(input: [1, 8, 8, 4], outputs: 6, kernel: Pair(1), groups: 4) }
  }

  @Test func moreThanTheMemoryIsAnError() throws {
    let benchmark = try OperationBenchmark(m: 1000, n: 1000, k: 1000)
    let error = #expect(throws: OperationBenchmark.SizeError.self) {
      try benchmark.prepare(on: TestDevices.native[0].make(), availableByteCount: 20 << 20)
    }
    #expect(error?.description.contains("smaller sizes") == true)
    _ = try benchmark.prepare(on: TestDevices.native[0].make(), availableByteCount: 40 << 20)
    #expect((AvailableMemory.byteCount() ?? 0) > 1 << 20)
  }
}
