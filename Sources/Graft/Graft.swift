/// Transfer learning on the GPU a person has: one import for everything.
@_exported import GraftBackbones
@_exported import GraftData
@_exported import GraftDevice
@_exported import GraftGraph
@_exported import GraftTraining
