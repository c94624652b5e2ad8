import CKernels
import Foundation
import GraftDevice

/// Softmax cross-entropy a row: loss[i] = log Σ exp(logits[i]) − logits[i, label[i]].
///
/// logits: [N, C], labels: [N] int32; a label below 0 marks a row that does not count (loss and gradient 0).
/// The kernel writes the gradient beside the loss, so that the backward pass costs one product.
public struct CrossEntropy: Operation {
  public static let kind = "crossEntropy"
  /// Whether the result is the gradient of the summed loss with respect to the logits ([N, C]) instead of the loss ([N]).
  public var givesGradient: Bool
  public init(givesGradient: Bool = false) { self.givesGradient = givesGradient }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 2 && inputs[0].rank == 2 && inputs[1].elementType == .int32 && inputs[1].shape == [inputs[0].shape[0]], Self.kind,
      "logits [N, C] and int32 labels [N] are expected, \(inputs) was found")
    return TensorType(givesGradient ? inputs[0].shape : inputs[1].shape)
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let (n, c) = (inputs[0].shape[0], inputs[0].shape[1])
    var (loss, gradient) = ([Double](repeating: 0, count: n), [Double](repeating: 0, count: n * c))
    for i in 0..<n {
      let x = inputs[0].values[i * c..<(i + 1) * c], label = Int(inputs[1].values[i])
      guard label >= 0, label < c else { continue }
      let greatest = x.max() ?? 0
      let total = x.reduce(0) { $0 + exp($1 - greatest) }
      loss[i] = log(total) + greatest - x[x.startIndex + label]
      for j in 0..<c { gradient[i * c + j] = exp(x[x.startIndex + j] - greatest) / total - (j == label ? 1 : 0) }
    }
    return givesGradient ? ReferenceTensor([n, c], gradient) : ReferenceTensor([n], loss)
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 6 * Double(inputs[0].elementCount) }

  /// dlogits[i, j] = (softmax(logits[i])[j] − [j = label[i]]) upstream[i].
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    guard !givesGradient else { throw GradientError(operation: "the gradient of \(kind)", node: context.node.name) }
    let rows = context.shape(context.inputs[1])[0]
    let difference = try context.add(CrossEntropy(givesGradient: true), context.inputs)
    let upstream = try context.add(Reshape([rows, 1]), [context.upstream])
    return [try context.add(Binary(.multiply), [difference, upstream]), nil]
  }

  public func lower(_ context: inout LoweringContext) throws {
    let shape = context.shape(context.inputs[0])
    let p = GraftCrossEntropyParams(rows: Int32(shape[0]), classes: Int32(shape[1]), ldx: Int32(shape[1]))
    let other = context.scratch(elementCount: givesGradient ? shape[0] : shape[0] * shape[1], precision: .float32)
    let inputs: [Operand?] = [context.parameter(context.inputs[0]), .value(context.inputs[1])]
    func operands(_ result: Operand) -> [Operand?] { inputs + (givesGradient ? [other, result] : [result, other]) }
    context.computeInFloat32 { context, result in
      switch context.traits.family {
      case .cpu: context.launch("softmax", "cross_entropy", operands(result), p, grid: Grid(shape[0]), precision: .float32)
      case .gpu:
        let groups = context.rowGroups(rows: shape[0], length: shape[1])
        context.launchGroups(
          "softmax", "cross_entropy", operands(result), p, count: groups.count, size: groups.size, options: groups.options, precision: .float32)
      }
    }
  }
}
