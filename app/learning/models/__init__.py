"""Models by name: a phone part and an MEC part over named stages.

=========  ======================  ================================  ==========================
model      data                    stages                            goes to the head by default
=========  ======================  ================================  ==========================
signal     lists of numbers        signature, scale, bottleneck      scale, 156 features
cnn        images                  conv1, conv2, bottleneck          conv2, 3,920 on 28 x 28
scattering images                  scattering, bottleneck            scattering, 3,969 on 28 x 28
mlp        tables                  scale, bottleneck                 scale, the columns
=========  ======================  ================================  ==========================

With noised features everything up to the bottleneck runs on the phone, and images take the model scattering. Whatever
runs on the phone is frozen.
"""

from app.learning.models.build import SplitModel, bottleneck_width, build
from app.learning.models.discriminant import DiscriminantHead
from app.learning.models.heads import Head, MlpHead, PrototypeHead
from app.learning.models.phone import Phone

__all__ = ["DiscriminantHead", "Head", "MlpHead", "Phone", "PrototypeHead", "SplitModel", "bottleneck_width", "build"]
