"""The U-Net of the post in Keras on TensorFlow: bench_keras.py DATA.npz THREADS [xla]"""
import os, sys
import bench_side

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
from keras import layers as L, ops

bench_side.say(at="start", version=f"{keras.__version__} on TensorFlow {tf.__version__}")
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[2]))
tf.config.threading.set_inter_op_parallelism_threads(1)


def pair(x, c):
    for _ in range(2):
        x = L.Conv2D(c, 3, padding="same", activation="relu")(x)
    return x


def unet(shape, channels=(8, 16, 32, 64, 128), classes=5):
    x = first = keras.Input(shape)
    skip = []
    for c in channels:
        x = pair(L.MaxPooling2D()(x) if skip else x, c)
        skip.append(x)
    skip.pop()
    for c in channels[-2::-1]:
        x = pair(L.Concatenate()([L.Conv2DTranspose(c, 2, strides=2)(x), skip.pop()]), c)
    return keras.Model(first, L.Conv2D(classes, 1)(x))


def bce_plus_dice(t, z):
    p = ops.sigmoid(z)
    dice = (2 * ops.sum(p * t) + 1) / (ops.sum(p) + ops.sum(t) + 1)
    return ops.mean(ops.binary_crossentropy(t, z, from_logits=True)) + 1 - dice


images, masks, weights = bench_side.load(sys.argv[1])
net = unet(images.shape[1:])
net.set_weights(weights)
net.compile(keras.optimizers.Adam(1e-3), bce_plus_dice, jit_compile="xla" in sys.argv)
x, t = tf.constant(images), tf.constant(masks)


def step():
    net.reset_metrics()  # else the running mean is told
    return float(net.train_on_batch(x, t))


bench_side.serve(step, lambda: net.predict_on_batch(x), net.count_params())
