import CKernels
import Foundation
import GraftDevice

/// An elementwise operation of two tensors that broadcast as NumPy's: y = activation(a ∘ b).
public struct Binary: Operation {
  public static let kind = "binary"

  public enum Function: Int32, Sendable, CaseIterable {
    case add = 0
    case subtract, multiply, divide, maximum, minimum, power
    /// a where a ≥ 0, else a b.
    case prelu
    /// 1 where a = b (a > b), else 0: no gradient flows through them.
    case equal, greater
    /// a where b is not 0, else 0, whatever a is there: an infinity or what is no number goes, too. No gradient flows through b.
    case masked

    package func callAsFunction(_ a: Double, _ b: Double) -> Double {
      switch self {
      case .add: a + b
      case .subtract: a - b
      case .multiply: a * b
      case .divide: a / b
      case .maximum: a.isNaN || b.isNaN ? .nan : max(a, b)
      case .minimum: a.isNaN || b.isNaN ? .nan : min(a, b)
      case .power: pow(a, b)
      case .prelu: a < 0 ? a * b : a
      case .equal: a == b ? 1 : 0
      case .greater: a > b ? 1 : 0
      case .masked: b != 0 ? a : 0
      }
    }
  }

  public var function: Function
  public var activation: Activation

  public init(_ function: Function, activation: Activation = .none) { (self.function, self.activation) = (function, activation) }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(inputs.count == 2, Self.kind, "\(inputs.count) inputs were given")
    guard let shape = broadcastShape(inputs[0].shape, inputs[1].shape) else {
      throw ShapeError(Self.kind, "\(function): \(inputs[0].shape) and \(inputs[1].shape) do not broadcast")
    }
    return TensorType(shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let shape = broadcastShape(inputs[0].shape, inputs[1].shape)!
    let strides = inputs.map { broadcastStrides($0.shape, to: shape) }
    let (a, b) = (inputs[0].values, inputs[1].values)
    return ReferenceTensor(shape, (0, strides[0]), (0, strides[1])) { activation(function(a[$0], b[$1])) }
  }

  public func acceptsRowStride(input: Int) -> Bool { true }
  public var producesRowStride: Bool { true }

  public func isComputedByImage(_ inputs: [TensorType], hasImages: [Bool]) -> Bool {
    let rank = max(inputs[0].rank, inputs[1].rank)
    return zip(inputs, hasImages).allSatisfy { input, hasImages in
      hasImages ? input.rank == rank : input.rank < rank || input.shape[0] == 1
    }
  }

  public func lower(_ context: inout LoweringContext) throws {
    let (a, b, y) = (context.inputs[0], context.inputs[1], context.output)
    let shape = context.shape(y)
    let strides = [a, b, y].map { broadcastStrides(context.shape($0), to: shape, rowStride: context.rowStride($0)) }
    let (dims, s) = collapse(shape, strides)
    guard dims.count <= Int(GRAFT_MAX_RANK) else { throw LoweringError(context, "broadcasts over more than \(GRAFT_MAX_RANK) dimensions") }
    let p = GraftBinaryParams(
      rank: Int32(dims.count), dims: rankTuple(dims, filling: 1), stridesA: rankTuple(s[0], filling: 0), stridesB: rankTuple(s[1], filling: 0),
      stridesY: rankTuple(s[2], filling: 0), operation: function.rawValue, epilogue: epilogue(activation))
    let rows = dims.dropLast().reduce(1, *)
    switch context.traits.family {
    case .cpu:
      var cut = p
      var count = rows
      if dims.count == 1, dims[0] % 1024 == 0, dims[0] > 1024 {
        // One long row: several, so that threads share it.
        cut.rank = 2
        (count, cut.dims.0, cut.dims.1) = (dims[0] / 1024, Int32(dims[0] / 1024), 1024)
        (cut.stridesA.1, cut.stridesB.1, cut.stridesY.1) = (p.stridesA.0, p.stridesB.0, p.stridesY.0)
        (cut.stridesA.0, cut.stridesB.0, cut.stridesY.0) = (p.stridesA.0 * 1024, p.stridesB.0 * 1024, p.stridesY.0 * 1024)
      }
      context.launch("elementwise", "binary", [context.stored(a), context.stored(b), .value(y)], cut, grid: Grid(divideUp(count, 16)))
    case .gpu: lowerForGPU(&context, p, dims: dims, strides: s)
    }
  }

  /// Vectors along the last dimension where every operand has whole ones there, or one element that repeats.
  private func lowerForGPU(_ context: inout LoweringContext, _ p: GraftBinaryParams, dims: [Int], strides: [[Int]]) {
    let last = dims.count - 1
    let operands = [context.stored(context.inputs[0]), context.stored(context.inputs[1]), .value(context.output)]
    let repeats = strides.map { $0[last] == 0 }
    let inRuns = strides.allSatisfy { $0[last] <= 1 && $0[last] >= 0 } && strides[2][last] == 1
    let starts = zip(operands, repeats).filter { !$1 }.map(\.0)
    let steps = zip(strides, repeats).filter { !$1 }.flatMap { $0.0[..<last] }
    let width = inRuns ? context.vector([dims[last]] + steps, starts) : 1
    context.launchItems(
      "elementwise", "binary", operands, p, count: dims.reduce(1, *) / width,
      options: LoweringContext.vectorOption(width) + [.init("RANK", dims.count)] + activation.gpuOptions)
  }
}
