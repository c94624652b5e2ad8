// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target: Swift 6 language mode, and no warning survives.
let strict: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
]

let package = Package(
  name: "graft",
  products: [
    .library(name: "Graft", targets: ["Graft"]),
    .executable(name: "graft", targets: ["GraftCLI"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
  ],
  targets: [
    // C interop. `Kernels/` holds the sources that people read; these targets embed and compile them.
    .target(
      name: "COpenCL",
      cSettings: [.define("CL_TARGET_OPENCL_VERSION", to: "120"), .headerSearchPath("../../Kernels")],
      linkerSettings: [.linkedLibrary("OpenCL")]),
    .target(name: "CKernels", cSettings: [.headerSearchPath("../../Kernels")], linkerSettings: [.linkedLibrary("pthread"), .linkedLibrary("m")]),
    .target(
      name: "CCodecs",
      linkerSettings: [
        .linkedLibrary("jpeg"), .linkedLibrary("spng"), .linkedLibrary("webp"), .linkedLibrary("webpdemux"), .linkedLibrary("tiff"),
        .linkedLibrary("z"),
      ]),
    .systemLibrary(name: "CZip", pkgConfig: "libzip", providers: [.apt(["libzip-dev"])]),

    // Layers; each may use those above it.
    .target(
      name: "GraftDevice",
      dependencies: ["COpenCL", "CKernels", .product(name: "Crypto", package: "swift-crypto")],
      swiftSettings: strict),
    .target(name: "GraftGraph", dependencies: ["GraftDevice", "CKernels"], swiftSettings: strict),
    .target(
      name: "GraftBackbones",
      dependencies: [
        "GraftGraph", "CZip", .product(name: "SwiftProtobuf", package: "swift-protobuf"), .product(name: "Crypto", package: "swift-crypto"),
      ],
      exclude: ["ONNX/onnx.proto"],
      swiftSettings: strict),
    .target(
      name: "GraftData",
      dependencies: ["GraftGraph", "CCodecs", .product(name: "GRDB", package: "GRDB.swift"), .product(name: "Crypto", package: "swift-crypto")],
      swiftSettings: strict),
    .target(name: "GraftTraining", dependencies: ["GraftGraph", "GraftBackbones", "GraftData"], swiftSettings: strict),
    .target(
      name: "Graft",
      dependencies: ["GraftDevice", "GraftGraph", "GraftBackbones", "GraftData", "GraftTraining"],
      swiftSettings: strict),
    .executableTarget(
      name: "GraftCLI",
      dependencies: ["Graft", .product(name: "ArgumentParser", package: "swift-argument-parser")],
      swiftSettings: strict),

    // What the documentation shows, as a program outside the package would be: it sees what is public and nothing else.
    .executableTarget(name: "custom-head", dependencies: ["Graft"], path: "Examples/CustomHead", packageAccess: false, swiftSettings: strict),
    .executableTarget(
      name: "predict-and-tune", dependencies: ["Graft"], path: "Examples/PredictAndTune", packageAccess: false, swiftSettings: strict),

    // The operations' cases, for the tests and for Tools/kernels, whose part in Swift is no product.
    .target(name: "OperationSamples", dependencies: ["GraftGraph"], path: "Tests/OperationSamples", swiftSettings: strict),
    .executableTarget(
      name: "graft-kernels",
      dependencies: ["GraftBackbones", "GraftGraph", "OperationSamples", .product(name: "ArgumentParser", package: "swift-argument-parser")],
      path: "Tools/graft-kernels", swiftSettings: strict),

    .testTarget(name: "GraftDeviceTests", dependencies: ["GraftDevice"], swiftSettings: strict),
    .testTarget(
      name: "GraftGraphTests", dependencies: ["GraftGraph", "OperationSamples"], resources: [.copy("Fixtures")], swiftSettings: strict),
    .testTarget(name: "GraftBackbonesTests", dependencies: ["GraftBackbones"], resources: [.copy("Fixtures")], swiftSettings: strict),
    .testTarget(name: "GraftDataTests", dependencies: ["GraftData"], resources: [.copy("Fixtures")], swiftSettings: strict),
    .testTarget(
      name: "GraftTrainingTests", dependencies: ["GraftTraining", "OperationSamples"], resources: [.copy("Fixtures")], swiftSettings: strict),
    .testTarget(name: "EndToEndTests", dependencies: ["Graft"], resources: [.copy("Fixtures")], swiftSettings: strict),
  ],
  cLanguageStandard: .gnu17
)
