/// H independent minimisation problems of the same size, evaluated together: the heads of a sweep share one pass over
/// the features and one GEMM.
public protocol SmoothObjective: AnyObject {
  /// H, how many problems there are.
  var headCount: Int { get }
  /// P, how many parameters each has.
  var parameterCount: Int { get }

  /// Writes the value and the gradient of every active head, and leaves the entries of the others alone.
  ///
  /// - Parameters:
  ///   - parameters: `[H, P]`
  ///   - active: `[H]`
  ///   - losses: `[H]`
  ///   - gradients: `[H, P]`
  func evaluate(parameters: [Double], active: [Bool], losses: inout [Double], gradients: inout [Double]) throws

  /// An approximate inverse Hessian of a head at the point evaluated last; nil for the identity.
  func preconditioner(head: Int) throws -> (any Preconditioner)?
}

extension SmoothObjective {
  public func preconditioner(head: Int) throws -> (any Preconditioner)? { nil }
}

/// A symmetric positive definite matrix M that resembles the Hessian and is cheap to solve with.
public protocol Preconditioner {
  /// Replaces `vector` (`[P]`) by M⁻¹·vector.
  func solve(_ vector: inout [Double])
}
