import CKernels
import Foundation
import GraftDevice

/// The loss of each sample's outputs z against targets t of the same shape: [N, C] and [N, C] to [N].
///
/// Outputs, targets and losses are float32 in every plan, and so is the difference that the gradient begins with: in a shorter format
/// that of a sample which is nearly right would be mostly rounding.
public struct SampleLoss: Operation {
  public static let kind = "sampleLoss"

  public enum Function: Sendable, Hashable {
    /// Σ t (log Σ exp z − z): targets are shares of classes, such as one of 1.
    case crossEntropy
    /// Σ (log(1 + exp z) − t z): any number of labels.
    case sigmoid
    /// Σ (z − t)² / 2
    case squared
    /// (z − t)² / 2 up to a distance of δ, δ (|z − t| − δ/2) beyond, summed (Huber, "Robust Estimation of a Location Parameter", 1964).
    case huber(Float)
  }

  public var function: Function
  /// Whether the result is the gradient of the summed loss with respect to the outputs ([N, C]) instead of the loss ([N]).
  public var givesGradient: Bool

  public init(_ function: Function, givesGradient: Bool = false) { (self.function, self.givesGradient) = (function, givesGradient) }

  public var resultIsFloat32: Bool { true }

  public func outputType(_ inputs: [TensorType]) throws(ShapeError) -> TensorType {
    try ShapeError.expect(
      inputs.count == 2 && inputs[0].rank == 2 && inputs[0].shape == inputs[1].shape, Self.kind,
      "outputs and targets of one shape [N, C] are expected, \(inputs.map(\.shape)) were found")
    return TensorType(givesGradient ? inputs[0].shape : [inputs[0].shape[0]])
  }

  public func reference(_ inputs: [ReferenceTensor]) -> ReferenceTensor {
    let (n, c) = (inputs[0].shape[0], inputs[0].shape[1])
    var (loss, gradient) = ([Double](repeating: 0, count: n), [Double](repeating: 0, count: n * c))
    for i in 0..<n {
      let z = Array(inputs[0].values[i * c..<(i + 1) * c]), t = Array(inputs[1].values[i * c..<(i + 1) * c])
      let greatest = z.max() ?? 0, total = z.reduce(0) { $0 + exp($1 - greatest) }, share = t.reduce(0, +)
      for j in 0..<c {
        let distance = z[j] - t[j]
        switch function {
        case .crossEntropy:
          loss[i] += t[j] * (log(total) + greatest - z[j])
          gradient[i * c + j] = exp(z[j] - greatest) / total * share - t[j]
        case .sigmoid:
          loss[i] += max(z[j], 0) + log1p(exp(-abs(z[j]))) - t[j] * z[j]
          gradient[i * c + j] = 1 / (1 + exp(-z[j])) - t[j]
        case .squared:
          loss[i] += distance * distance / 2
          gradient[i * c + j] = distance
        case .huber(let delta):
          let bound = Double(delta)
          loss[i] += abs(distance) <= bound ? distance * distance / 2 : bound * (abs(distance) - bound / 2)
          gradient[i * c + j] = min(max(distance, -bound), bound)
        }
      }
    }
    return givesGradient ? ReferenceTensor([n, c], gradient) : ReferenceTensor([n], loss)
  }

  public func flops(_ inputs: [TensorType], _ output: TensorType) -> Double { 8 * Double(inputs[0].elementCount) }

  /// The gradient of a sample's outputs times what the sample's loss counts. Targets take none.
  public func gradient(_ context: inout GradientContext) throws -> [ValueID?] {
    guard !givesGradient else { throw GradientError(operation: "the gradient of \(kind)", node: context.node.name) }
    let rows = context.shape(context.inputs[0])[0]
    let difference = try context.add(SampleLoss(function, givesGradient: true), context.inputs)
    return [try context.binary(.multiply, difference, try context.add(Reshape([rows, 1]), [context.upstream])), nil]
  }

  public func lower(_ context: inout LoweringContext) throws {
    let shape = context.shape(context.inputs[0])
    let (kind, delta): (Int, Float) =
      switch function {
      case .crossEntropy: (GRAFT_LOSS_CROSS_ENTROPY, 0)
      case .sigmoid: (GRAFT_LOSS_SIGMOID, 0)
      case .squared: (GRAFT_LOSS_SQUARED, 0)
      case .huber(let delta): (GRAFT_LOSS_HUBER, delta)
      }
    let p = GraftLossParams(rows: Int32(shape[0]), classes: Int32(shape[1]), kind: Int32(kind), delta: delta)
    let other = context.scratch(elementCount: givesGradient ? shape[0] : shape[0] * shape[1], precision: .float32)
    let inputs: [Operand?] = [context.parameter(context.inputs[0]), context.parameter(context.inputs[1])]
    context.computeInFloat32 { context, result in
      let operands = inputs + (givesGradient ? [other, result] : [result, other])
      switch context.traits.family {
      case .cpu: context.launch("softmax", "sample_loss", operands, p, grid: Grid(shape[0]), precision: .float32)
      case .gpu:
        let groups = context.rowGroups(rows: shape[0], length: shape[1])
        context.launchGroups(
          "softmax", "sample_loss", operands, p, count: groups.count, size: groups.size, options: groups.options, precision: .float32)
      }
    }
  }
}
