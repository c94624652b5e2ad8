import Foundation
import GraftTraining
import Testing

@Suite struct CurvatureModelTests {
  /// With every row sampled, the model at uniform predictions is the Hessian's diagonal block: check M·(M⁻¹·v) = v.
  @Test(arguments: [(20, 6), (12, 30)])
  func invertsTheSecondMomentsAndThePenalty(rowCount: Int, dimension: Int) throws {
    let (x, y) = syntheticSamples(rows: rowCount, dimension: dimension, classes: 2, seed: 5)
    let model = try CurvatureModel(FeatureStatistics(labelled(x, y), sampleLimit: 128), transform: .none)
    let curvatures = [0.25, 0.01]
    // λ/s is one of those that are factored, so that the model is exact.
    for (classIndex, l2) in [(0, 0.25 / 8), (1, 0.01 * 64)] {
      let preconditioner = try #require(model.preconditioner(l2: l2, curvatures: curvatures))
      var random = Random(6)
      let vector = (0..<2 * (dimension + 1)).map { _ in random.normal() }
      var solved = vector
      preconditioner.solve(&solved)
      let weights = Array(solved[classIndex * dimension..<(classIndex + 1) * dimension]) + [solved[2 * dimension + classIndex]]
      let wanted = Array(vector[classIndex * dimension..<(classIndex + 1) * dimension]) + [vector[2 * dimension + classIndex]]
      var product = weights.enumerated().map {
        ($0.offset < dimension ? l2 : curvatures[classIndex] * min(l2 / curvatures[classIndex], 1e-4)) * $0.element
      }
      for row in 0..<rowCount {
        let extended = x[row * dimension..<(row + 1) * dimension].map(Double.init) + [1]
        let inner = zip(extended, weights).reduce(0) { $0 + $1.0 * $1.1 }
        for column in extended.indices { product[column] += curvatures[classIndex] / Double(rowCount) * inner * extended[column] }
      }
      for (found, expected) in zip(product, wanted) { #expect(abs(found - expected) < 1e-8) }
    }
  }

  /// Between two strengths that are factored the inverse is one of a matrix that lies close.
  @Test(arguments: [1.2, 2, 4, 7]) func mixesInversesBetween(place: Double) throws {
    let (dimension, rowCount) = (30, 80)
    let (x, y) = syntheticSamples(rows: rowCount, dimension: dimension, classes: 2, seed: 12, scales: true)
    let model = try CurvatureModel(FeatureStatistics(labelled(x, y), sampleLimit: 128), transform: .none)
    let l2 = 0.25 * 0.125 * place
    let preconditioner = try #require(model.preconditioner(l2: l2, curvatures: [0.25, 0.25]))
    #expect(preconditioner.factors.map(\.bucket) == [-1, 0])
    var random = Random(3)
    for _ in 0..<20 {
      let vector = (0..<dimension).map { _ in random.normal() } + [Double](repeating: 0, count: dimension + 2)
      var solved = vector
      preconditioner.solve(&solved)
      // Over the true quadratic form, the step towards the minimum along the direction found is 1 for the exact inverse.
      let weights = Array(solved[..<dimension]) + [solved[2 * dimension]]
      var form = weights[..<dimension].reduce(0) { $0 + l2 * $1 * $1 }
      for row in 0..<rowCount {
        let extended = x[row * dimension..<(row + 1) * dimension].map(Double.init) + [1]
        let inner = zip(extended, weights).reduce(0) { $0 + $1.0 * $1.1 }
        form += 0.25 / Double(rowCount) * inner * inner
      }
      let step = zip(vector, weights).reduce(0) { $0 + $1.0 * $1.1 } / form
      #expect(step > 0.99 && step < 1.35, "\(step)")
    }
  }

  @Test func survivesConstantAndEmptyFeaturesAndNoPenalty() throws {
    let x = (0..<40).flatMap { row -> [Float] in [0, 5, Float(row % 3)] }
    let model = try CurvatureModel(FeatureStatistics(labelled(x, (0..<40).map { $0 % 2 }), sampleLimit: 8), transform: .none)
    let preconditioner = try #require(model.preconditioner(l2: 0, curvatures: [0.25, 0.25]))
    var vector = [Double](repeating: 1, count: 8)
    preconditioner.solve(&vector)
    #expect(vector.allSatisfy { $0.isFinite })
  }

  /// The reason it exists: far fewer iterations than L-BFGS alone, to a lower objective.
  @Test func savesIterations() throws {
    let (x, y) = syntheticSamples(rows: 1500, dimension: 40, classes: 10, seed: 8, scales: true)
    let data = try labelled(x, y)
    let statistics = try FeatureStatistics(data, sampleLimit: CurvatureModel.sampleLimit)
    let counts = [Int](repeating: 150, count: 10)
    let options = LBFGSOptions(maximumIterations: 2000, lossPrecision: 1e-7)
    let results = try [nil, CurvatureModel(statistics, transform: .none)].map { model in
      let objective = PenalisedObjective(
        try HostLinearObjective(data, classCount: 10), l2: [0.01], classCounts: counts, curvatureModel: model)
      return try #require(try LBFGS(options: options).minimise(objective, from: [Double](repeating: 0, count: 410)).first)
    }
    #expect(results[1].status != .iterationLimit)
    #expect(results[1].iterations * 5 < results[0].iterations)
    #expect(results[1].loss <= results[0].loss)
  }
}
