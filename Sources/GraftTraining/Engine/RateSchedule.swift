import Foundation

/// How the learning rate goes over a training run, as a factor of the one that was asked for.
public struct RateSchedule: Sendable, Equatable {
  public enum Shape: String, Sendable, CaseIterable {
    /// The same throughout.
    case constant
    /// Half a cosine down to `final` (Loshchilov and Hutter, "SGDR", 2017).
    case cosine
    /// Up by half a cosine over the first 30 %, down to `final` by half a cosine (Smith and Topin, "Super-Convergence", 2018).
    case oneCycle = "one-cycle"
    /// A tenth after 50 % and again after 75 %.
    case step
    /// A straight line down to `final`.
    case linear
  }

  public var shape: Shape
  /// Steps during which the rate grows from almost zero in a straight line, before the shape begins.
  public var warmupSteps: Int
  public var totalSteps: Int
  /// The factor at the end.
  public var final: Double

  public init(_ shape: Shape, totalSteps: Int, warmupSteps: Int = 0, final: Double = 0) {
    (self.shape, self.totalSteps, self.warmupSteps, self.final) = (shape, totalSteps, warmupSteps, final)
  }

  /// The factor of step 0, 1, ….
  public func factor(step: Int) -> Double {
    if step < warmupSteps { return Double(step + 1) / Double(warmupSteps + 1) }
    let length = Double(max(1, totalSteps - warmupSteps)), done = min(1, Double(step - warmupSteps) / length)
    func fall(_ part: Double, from top: Double, to bottom: Double) -> Double { bottom + (top - bottom) * (1 + cos(.pi * part)) / 2 }
    switch shape {
    case .constant: return 1
    case .cosine: return fall(done, from: 1, to: final)
    case .linear: return 1 + (final - 1) * done
    case .step: return done < 0.5 ? 1 : done < 0.75 ? 0.1 : 0.01
    case .oneCycle: return done < 0.3 ? fall(1 - done / 0.3, from: 1, to: 0.04) : fall((done - 0.3) / 0.7, from: 1, to: final)
    }
  }
}
